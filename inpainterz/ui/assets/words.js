// All words of the page, by language. {0}, {1} are filled in. English is what is missing elsewhere.
const WORDS = {
  en: {
    name: "English", motto: "Click it. It is gone.", language: "Language",
    step_clip: "Clip", step_select: "Select", step_result: "Result",
    drop: "Drop a video here, or choose one", drop_hint: "MP4, MOV, MKV, WebM, AVI and others, up to {0}",
    sending: "Sending {0}", reading: "Reading {0}", reading_short: "Reading the clip…",
    too_large: "That file is larger than {0}, which is the most that is taken.",
    broke_off: "The upload broke off. Try again.", not_arrived: "The upload did not arrive. Try again.",
    lost: "The page has no connection. It tries again.", example: "No clip at hand? Try the example",
    getting_example: "Getting the example clip…",
    promise_same: "Same size, frame rate and sound as your clip",
    promise_here: "Works on this machine: nothing is sent anywhere else",
    promise_gone: "Deleted when you are done",
    how: "How to select", way_click: "Click", way_brush: "Brush", way_things: "People and things", way_import: "Import masks",
    what_click: "What a click does", add: "Add", exclude: "Exclude", box: "Box", brush: "Brush", erase: "Eraser",
    add_long: "Click what belongs to the object", exclude_long: "Click what does not belong to it (or right-click)",
    box_long: "Drag a box around the object", brush_long: "Paint what belongs to the object", erase_long: "Wipe away what does not belong to it",
    brush_size: "Size", find_moving: "What moves", find_people: "People", take_things: "Select these", thing: "Thing {0}", from_to: "frames {0} to {1}", find_words: "What to look for, such as: red car", find: "Find",
    choose_masks: "Choose masks", masks_hint: "A zip of PNGs, a project file, or one PNG for this frame",
    edit: "Edit", zoom_in: "Zoom in", zoom_out: "Zoom out", undo: "Undo", redo: "Redo", reset: "Forget all clicks",
    view: "The frame. Click the object. Arrow keys change the frame; W, A, S, D move a cross and Enter clicks there; plus and minus zoom.",
    live: "Show the newest frame", previous: "Previous frame", next: "Next frame", frame: "Frame", frame_of: "Frame {0} of {1}",
    filmstrip: "Filmstrip, doubtful frames first", strip_frame: "Frame {0}", strip_sure: "Frame {0}, {1} sure", looking: "Looking…",
    fps: "{0} fps", frames: "{0} frames", one_frame: "1 frame", seconds: "{0} s", minutes: "{0} min {1} s", sound: "with sound", no_sound: "no sound",
    objects: "Objects", object: "Object {0}", another_object: "+ Another object", not_marked: "not marked yet", everywhere: "all frames",
    in_frames: "{0} frames", in_frame: "1 frame", delete_object: "Delete {0}", hide_object: "Hide {0}", show_object: "Show {0}", rename_object: "Name of {0}", rename: "Rename",
    track: "Track", track_again: "Track again", remove: "Remove", cancel: "Cancel", see_result: "See the result",
    settings: "Settings", auto_margin: "Choose the margin for me", margin: "Margin (pixels)", soft_edge: "Soft edge (pixels)",
    memory_limit: "Memory limit (MB)", memory_hint: "Empty: no limit. With less, fewer frames are borrowed from.",
    quality: "Quality of the file", quality_best: "Best, large", quality_high: "As the original", quality_small: "Smaller",
    engine_segment: "Selecting", engine_track: "Following", engine_inpaint: "Filling", engine_builtin: "Built in: {0}", engine_needs: "needs {0}",
    engine_free: "{0} licence", engine_nc: "{0}: not for commercial use", fetch: "Fetch {0} ({1})",
    again: "Use another clip", before_after: "Before and after", how_compare: "How to compare", side: "Side by side", wipe: "Wipe", map: "Seen or invented",
    original: "Original", clean: "Clean", origin: "Where it came from", share: "How much of the original is shown", play: "Play", pause: "Pause", position: "Position",
    key_seen: "seen in other frames", key_invented: "invented",
    download_clean: "Download the clean clip", download_masks: "Masks", download_overlay: "Overlay", download_report: "Report", download_project: "Project file",
    back: "Back to the selection", another_clip: "Start with another clip",
    of_seconds: "{0} s of {1} s", result_facts: "{0} × {1}, {2} frames, as the original · made in {3}",
    all_seen: "All of what was filled is seen in other frames.", nearly_seen: "Nearly all of what was filled is seen in other frames.",
    part_seen: "{0} of what was filled is seen in other frames, {1} is invented.", not_carried: "Not carried over: {0}.",
    next_click: "Click the thing that should go.", next_click_how: "Any frame will do where it can be seen well; the slider moves through the clip.",
    next_all: "Is all of it tinted?", next_all_how: "If not, add to it or exclude with more clicks. Then press Track.",
    next_stale: "The selection changed.", next_stale_how: "Press Track again: only what it touches is followed anew.",
    next_done: "Done.", next_done_how: "The result fits this selection.",
    next_followed: "Followed.", next_followed_how: "Move the slider and look. Where the tint is wrong, click to correct it there and track again. Otherwise press Remove.",
    worth: "Worth a look, frame", and_more: "and {0} more",
    job_queue: "Waiting for its turn", job_example: "Getting the example clip", job_cuts: "Looking at the clip", job_follow: "Following the selection",
    job_study: "Looking at what is behind", job_fill: "Filling in", job_compare: "Preparing the comparison", job_weights: "Fetching the network", job_things: "Looking for people and things",
    preview: "Preview 2 seconds", preview_of: "Preview with {0}", job_preview: "Filling the preview", more_engines: "{0} more to fetch", part: "Frames that may change", part_first: "First frame", part_last: "Last frame", stopping: "Stopping", place: "number {0} in the queue", frame_done: "frame {0} of {1}", left: "about {0} left", leave: "You can close this page: the work goes on, and this address brings you back.",
    click_nothing: "Nothing is selected yet.",
  },
  ko: {
    name: "한국어", motto: "클릭하면 사라집니다.", language: "언어",
    step_clip: "영상", step_select: "선택", step_result: "결과",
    drop: "영상을 끌어다 놓거나 선택하세요", drop_hint: "MP4, MOV, MKV, WebM, AVI 등, 최대 {0}",
    sending: "{0} 올리는 중", reading: "{0} 읽는 중", reading_short: "영상을 읽는 중…",
    too_large: "파일이 최대 크기 {0}보다 큽니다.", broke_off: "업로드가 끊겼습니다. 다시 시도하세요.", not_arrived: "업로드되지 않았습니다. 다시 시도하세요.",
    lost: "연결이 끊겼습니다. 다시 연결하는 중입니다.", example: "영상이 없나요? 예제를 사용해 보세요", getting_example: "예제 영상을 가져오는 중…",
    promise_same: "크기, 프레임 속도, 소리가 원본 그대로", promise_here: "이 컴퓨터에서만 처리하며 다른 곳으로 보내지 않습니다", promise_gone: "끝나면 삭제됩니다",
    how: "선택 방법", way_click: "클릭", way_brush: "브러시", way_things: "사람과 사물", way_import: "마스크 가져오기",
    what_click: "클릭의 역할", add: "추가", exclude: "제외", box: "상자", brush: "브러시", erase: "지우개",
    add_long: "대상에 속하는 곳을 클릭", exclude_long: "대상이 아닌 곳을 클릭 (또는 오른쪽 클릭)", box_long: "대상 둘레에 상자를 그리세요",
    brush_long: "대상에 속하는 곳을 칠하세요", erase_long: "대상이 아닌 곳을 지우세요", brush_size: "크기",
    find_moving: "움직이는 것", find_people: "사람", take_things: "선택한 것을 대상으로", thing: "물체 {0}", from_to: "프레임 {0}–{1}", find_words: "찾을 것, 예: 빨간 자동차", find: "찾기",
    choose_masks: "마스크 선택", masks_hint: "PNG 압축 파일, 프로젝트 파일, 또는 이 프레임용 PNG 한 장",
    edit: "편집", zoom_in: "확대", zoom_out: "축소", undo: "실행 취소", redo: "다시 실행", reset: "모든 클릭 지우기",
    view: "프레임입니다. 대상을 클릭하세요. 화살표 키로 프레임을 바꾸고, W A S D로 십자를 움직여 Enter로 클릭하며, + 와 - 로 확대·축소합니다.",
    live: "최신 프레임 보기", previous: "이전 프레임", next: "다음 프레임", frame: "프레임", frame_of: "프레임 {0} / {1}",
    filmstrip: "필름 스트립, 의심스러운 프레임 먼저", strip_frame: "프레임 {0}", strip_sure: "프레임 {0}, 확신도 {1}", looking: "찾는 중…",
    fps: "초당 {0}프레임", frames: "{0}프레임", one_frame: "1프레임", seconds: "{0}초", minutes: "{0}분 {1}초", sound: "소리 있음", no_sound: "소리 없음",
    objects: "대상", object: "대상 {0}", another_object: "+ 대상 추가", not_marked: "아직 표시 안 됨", everywhere: "모든 프레임", in_frames: "{0}프레임", in_frame: "1프레임",
    delete_object: "{0} 삭제", hide_object: "{0} 숨기기", show_object: "{0} 보이기", rename_object: "{0}의 이름", rename: "이름 바꾸기",
    track: "추적", track_again: "다시 추적", remove: "제거", cancel: "취소", see_result: "결과 보기",
    settings: "설정", auto_margin: "여백 자동 선택", margin: "여백 (픽셀)", soft_edge: "부드러운 가장자리 (픽셀)",
    memory_limit: "메모리 한도 (MB)", memory_hint: "비워 두면 한도가 없습니다. 메모리가 적으면 참고하는 프레임이 줄어듭니다.",
    quality: "파일 품질", quality_best: "최고, 큰 파일", quality_high: "원본 수준", quality_small: "작은 파일",
    engine_segment: "선택", engine_track: "추적", engine_inpaint: "채우기", engine_builtin: "내장: {0}", engine_needs: "{0} 필요",
    engine_free: "{0} 라이선스", engine_nc: "{0}: 상업적 이용 불가", fetch: "{0} 받기 ({1})",
    again: "다른 영상 사용", before_after: "전과 후", how_compare: "비교 방법", side: "나란히", wipe: "밀어 보기", map: "본 것과 만든 것",
    original: "원본", clean: "결과", origin: "채운 곳의 출처", share: "원본을 보이는 정도", play: "재생", pause: "일시 정지", position: "위치",
    key_seen: "다른 프레임에서 보임", key_invented: "만들어 냄",
    download_clean: "결과 영상 내려받기", download_masks: "마스크", download_overlay: "오버레이", download_report: "보고서", download_project: "프로젝트 파일",
    back: "선택으로 돌아가기", another_clip: "다른 영상으로 시작", of_seconds: "{0}초 / {1}초",
    result_facts: "{0} × {1}, {2}프레임, 원본 그대로 · {3} 걸림", all_seen: "채운 부분은 모두 다른 프레임에서 본 것입니다.", nearly_seen: "채운 부분은 거의 모두 다른 프레임에서 본 것입니다.",
    part_seen: "채운 부분의 {0}는 다른 프레임에서 본 것이고 {1}는 만들어 낸 것입니다.", not_carried: "옮기지 못함: {0}.",
    next_click: "없앨 것을 클릭하세요.", next_click_how: "잘 보이는 프레임이면 어디든 좋습니다. 슬라이더로 이동합니다.",
    next_all: "전부 색칠되었나요?", next_all_how: "아니면 더 클릭해 추가하거나 제외하세요. 그다음 추적을 누르세요.",
    next_stale: "선택이 바뀌었습니다.", next_stale_how: "다시 추적을 누르면 바뀐 부분만 다시 추적합니다.",
    next_done: "끝났습니다.", next_done_how: "결과가 이 선택과 일치합니다.",
    next_followed: "추적했습니다.", next_followed_how: "슬라이더를 움직여 확인하세요. 틀린 곳은 클릭해 고치고 다시 추적하세요. 괜찮으면 제거를 누르세요.",
    worth: "확인해 볼 프레임", and_more: "외 {0}곳",
    job_queue: "차례를 기다리는 중", job_example: "예제 영상을 가져오는 중", job_cuts: "영상을 살펴보는 중", job_follow: "선택을 추적하는 중",
    job_study: "뒤에 있는 것을 보는 중", job_fill: "채우는 중", job_compare: "비교를 준비하는 중", job_weights: "신경망을 받는 중", job_things: "사람과 사물을 찾는 중",
    preview: "2초 미리 보기", preview_of: "{0} 미리 보기", job_preview: "미리 보기를 채우는 중", more_engines: "받을 수 있는 엔진 {0}개", part: "바꿀 프레임", part_first: "첫 프레임", part_last: "마지막 프레임", stopping: "멈추는 중", place: "대기열 {0}번째", frame_done: "{1}프레임 중 {0}", left: "약 {0} 남음", leave: "이 페이지를 닫아도 작업은 계속되며, 같은 주소로 돌아올 수 있습니다.",
    click_nothing: "아직 선택된 것이 없습니다.",
  },
  ja: {
    name: "日本語", motto: "クリックすれば、消えます。", language: "言語",
    step_clip: "動画", step_select: "選択", step_result: "結果",
    drop: "動画をドロップするか、選んでください", drop_hint: "MP4、MOV、MKV、WebM、AVI など、{0} まで",
    sending: "{0} を送信中", reading: "{0} を読み込み中", reading_short: "動画を読み込み中…", too_large: "ファイルが上限の {0} を超えています。",
    broke_off: "アップロードが途切れました。もう一度お試しください。", not_arrived: "アップロードできませんでした。もう一度お試しください。", lost: "接続が切れました。再接続しています。",
    example: "動画がなければ、サンプルをどうぞ", getting_example: "サンプル動画を取得中…",
    promise_same: "サイズ、フレームレート、音声は元のまま", promise_here: "このマシンで処理し、外部には送りません", promise_gone: "終わったら削除されます",
    how: "選択の方法", way_click: "クリック", way_brush: "ブラシ", way_things: "人と物", way_import: "マスクを読み込む",
    what_click: "クリックの働き", add: "追加", exclude: "除外", box: "枠", brush: "ブラシ", erase: "消しゴム",
    brush_size: "太さ", find_moving: "動くもの", find_people: "人", take_things: "これらを選択", thing: "物 {0}", from_to: "フレーム {0}～{1}", add_long: "対象に属するところをクリック", exclude_long: "対象でないところをクリック（または右クリック）", box_long: "対象を囲む枠をドラッグ", brush_long: "対象に属するところを塗る", erase_long: "対象でないところを消す", view: "フレームです。対象をクリックしてください。矢印キーでフレームを変え、W A S D で十字を動かし Enter でクリック、+ と - で拡大・縮小します。", find_words: "探すもの（例：赤い車）", find: "探す", choose_masks: "マスクを選ぶ",
    masks_hint: "PNG の zip、プロジェクトファイル、またはこのフレームの PNG 1 枚", edit: "編集", zoom_in: "拡大", zoom_out: "縮小", undo: "元に戻す", redo: "やり直す", reset: "すべてのクリックを消す",
    live: "最新のフレームを表示", previous: "前のフレーム", next: "次のフレーム", frame: "フレーム", frame_of: "フレーム {0} / {1}", filmstrip: "フィルムストリップ（疑わしいフレームが先）",
    strip_frame: "フレーム {0}", strip_sure: "フレーム {0}、確信度 {1}", looking: "確認中…", fps: "{0} fps", frames: "{0} フレーム", one_frame: "1 フレーム", seconds: "{0} 秒", minutes: "{0} 分 {1} 秒", sound: "音声あり", no_sound: "音声なし",
    objects: "対象", object: "対象 {0}", another_object: "+ 対象を追加", not_marked: "未指定", everywhere: "全フレーム", in_frames: "{0} フレーム", in_frame: "1 フレーム",
    delete_object: "{0} を削除", hide_object: "{0} を隠す", show_object: "{0} を表示", rename_object: "{0} の名前", rename: "名前を変更",
    track: "追跡", track_again: "もう一度追跡", remove: "除去", cancel: "中止", see_result: "結果を見る",
    settings: "設定", auto_margin: "余白を自動で選ぶ", margin: "余白（ピクセル）", soft_edge: "ぼかし（ピクセル）", memory_limit: "メモリの上限（MB）", memory_hint: "空欄なら上限なし。少ないほど参照するフレームが減ります。", quality: "ファイルの品質", quality_best: "最高（大きい）", quality_high: "元と同じ", quality_small: "小さめ",
    engine_segment: "選択", engine_track: "追跡", engine_inpaint: "補完", engine_builtin: "内蔵：{0}", engine_needs: "{0} が必要", engine_free: "{0} ライセンス", engine_nc: "{0}：商用利用不可", fetch: "{0} を取得（{1}）",
    again: "別の動画を使う", before_after: "前と後", how_compare: "比べ方", side: "並べる", wipe: "ワイプ", map: "見えたもの・作ったもの", original: "元", clean: "結果", origin: "補完の出どころ", share: "元の表示量", play: "再生", pause: "一時停止", position: "位置",
    key_seen: "他のフレームに写っている", key_invented: "作り出した", download_clean: "結果をダウンロード", download_masks: "マスク", download_overlay: "オーバーレイ", download_report: "レポート", download_project: "プロジェクトファイル",
    back: "選択に戻る", another_clip: "別の動画で始める", of_seconds: "{0} 秒 / {1} 秒", result_facts: "{0} × {1}、{2} フレーム、元のまま · 所要 {3}",
    all_seen: "補完した部分はすべて他のフレームに写っています。", nearly_seen: "補完した部分のほとんどは他のフレームに写っています。", part_seen: "補完した部分の {0} は他のフレームに写っており、{1} は作り出したものです。", not_carried: "引き継げなかったもの：{0}。",
    next_click: "消したいものをクリックしてください。", next_click_how: "よく見えるフレームならどこでも構いません。スライダーで移動します。", next_all: "全体に色が付きましたか？", next_all_how: "足りなければクリックで追加や除外をしてから、「追跡」を押してください。",
    next_stale: "選択が変わりました。", next_stale_how: "もう一度「追跡」を押すと、変わった部分だけを追跡し直します。", next_done: "完了しました。", next_done_how: "結果はこの選択のものです。",
    next_followed: "追跡しました。", next_followed_how: "スライダーを動かして確認してください。違う所はクリックで直して追跡し直し、よければ「除去」を押してください。",
    worth: "確認したいフレーム", and_more: "ほか {0} か所", job_queue: "順番を待っています", job_example: "サンプル動画を取得中", job_cuts: "動画を調べています", job_follow: "選択を追跡中",
    job_study: "後ろにあるものを調べています", job_fill: "補完中", job_compare: "比較の準備中", job_weights: "ネットワークを取得中", job_things: "人と物を探しています", preview: "2 秒プレビュー", preview_of: "{0} のプレビュー", job_preview: "プレビューを補完中", more_engines: "取得できるエンジン {0} 個", part: "変えてよいフレーム", part_first: "最初のフレーム", part_last: "最後のフレーム", stopping: "停止中", place: "待ち順 {0}", frame_done: "{1} フレーム中 {0}", left: "残り約 {0}",
    leave: "このページを閉じても作業は続き、同じアドレスで戻れます。", click_nothing: "まだ何も選択されていません。",
  },
  zh: {
    name: "中文", motto: "点一下，它就消失。", language: "语言",
    step_clip: "视频", step_select: "选择", step_result: "结果",
    drop: "把视频拖到这里，或选择一个", drop_hint: "MP4、MOV、MKV、WebM、AVI 等，最大 {0}", sending: "正在上传 {0}", reading: "正在读取 {0}", reading_short: "正在读取视频…",
    too_large: "文件超过上限 {0}。", broke_off: "上传中断，请重试。", not_arrived: "上传未完成，请重试。", lost: "连接已断开，正在重试。", example: "没有视频？试试示例", getting_example: "正在获取示例视频…",
    promise_same: "尺寸、帧率和声音与原片一致", promise_here: "在本机处理，不会发送到别处", promise_gone: "完成后即删除",
    how: "选择方式", way_click: "点击", way_brush: "画笔", way_things: "人和物", way_import: "导入蒙版", what_click: "点击的作用", add: "添加", exclude: "排除", box: "框选", brush: "画笔", erase: "橡皮",
    brush_size: "大小", find_moving: "运动的物体", find_people: "人", take_things: "选择这些", thing: "物体 {0}", from_to: "第 {0} 至 {1} 帧", add_long: "点击属于对象的地方", exclude_long: "点击不属于对象的地方（或右键点击）", box_long: "拖出包围对象的框", brush_long: "涂抹属于对象的地方", erase_long: "擦去不属于对象的地方", view: "这是一帧画面。请点击对象。方向键换帧，W A S D 移动十字，Enter 点击，+ 和 - 缩放。", find_words: "要找什么，例如：红色汽车", find: "查找", choose_masks: "选择蒙版", masks_hint: "PNG 压缩包、项目文件，或用于本帧的一张 PNG",
    edit: "编辑", zoom_in: "放大", zoom_out: "缩小", undo: "撤销", redo: "重做", reset: "清除所有点击", live: "显示最新一帧", previous: "上一帧", next: "下一帧", frame: "帧", frame_of: "第 {0} 帧，共 {1} 帧",
    filmstrip: "胶片条，可疑的帧在前", strip_frame: "第 {0} 帧", strip_sure: "第 {0} 帧，把握 {1}", looking: "正在查看…", fps: "{0} 帧/秒", frames: "{0} 帧", one_frame: "1 帧", seconds: "{0} 秒", minutes: "{0} 分 {1} 秒", sound: "有声音", no_sound: "无声音",
    objects: "对象", object: "对象 {0}", another_object: "+ 添加对象", not_marked: "尚未标记", everywhere: "所有帧", in_frames: "{0} 帧", in_frame: "1 帧", delete_object: "删除{0}", hide_object: "隐藏{0}", show_object: "显示{0}", rename_object: "{0}的名称", rename: "重命名",
    track: "跟踪", track_again: "重新跟踪", remove: "移除", cancel: "取消", see_result: "查看结果", settings: "设置", auto_margin: "自动选择边距", margin: "边距（像素）", soft_edge: "柔边（像素）",
    memory_limit: "内存上限（MB）", memory_hint: "留空则不限。内存越少，可参考的帧越少。", quality: "文件质量", quality_best: "最佳，较大", quality_high: "与原片相当", quality_small: "较小", engine_segment: "选择", engine_track: "跟踪", engine_inpaint: "填补", engine_builtin: "内置：{0}", engine_needs: "需要 {0}", engine_free: "{0} 许可", engine_nc: "{0}：不可商用", fetch: "获取 {0}（{1}）",
    again: "换一个视频", before_after: "前后对比", how_compare: "对比方式", side: "并排", wipe: "划动", map: "看到的与生成的", original: "原片", clean: "结果", origin: "填补的来源", share: "原片显示多少", play: "播放", pause: "暂停", position: "位置",
    key_seen: "在其他帧中可见", key_invented: "生成的", download_clean: "下载结果视频", download_masks: "蒙版", download_overlay: "叠加视频", download_report: "报告", download_project: "项目文件",
    back: "返回选择", another_clip: "用另一个视频开始", of_seconds: "{0} 秒 / {1} 秒", result_facts: "{0} × {1}，{2} 帧，与原片一致 · 用时 {3}", all_seen: "填补的内容全部来自其他帧。", nearly_seen: "填补的内容几乎全部来自其他帧。", part_seen: "填补的内容中 {0} 来自其他帧，{1} 是生成的。", not_carried: "未能保留：{0}。",
    next_click: "点击要去掉的东西。", next_click_how: "任何看得清楚的帧都可以；用滑块在视频中移动。", next_all: "全部着色了吗？", next_all_how: "如果没有，用更多点击添加或排除，然后按“跟踪”。", next_stale: "选择已更改。", next_stale_how: "再按“跟踪”，只会重新跟踪受影响的部分。",
    next_done: "完成。", next_done_how: "结果与当前选择一致。", next_followed: "已跟踪。", next_followed_how: "移动滑块查看。着色不对的地方点击修正并重新跟踪；没有问题就按“移除”。", worth: "值得检查的帧", and_more: "还有 {0} 处",
    job_queue: "正在排队", job_example: "正在获取示例视频", job_cuts: "正在查看视频", job_follow: "正在跟踪选择", job_study: "正在查看背后的内容", job_fill: "正在填补", job_compare: "正在准备对比", job_weights: "正在获取网络", job_things: "正在查找人和物",
    preview: "预览 2 秒", preview_of: "{0} 的预览", job_preview: "正在填补预览", more_engines: "还可获取 {0} 个引擎", part: "可更改的帧", part_first: "第一帧", part_last: "最后一帧", stopping: "正在停止", place: "排在第 {0} 位", frame_done: "第 {0} 帧，共 {1} 帧", left: "约剩 {0}", leave: "可以关闭此页：工作会继续，用同一地址即可返回。", click_nothing: "尚未选择任何东西。",
  },
};

// Sentences of the server that are met most, by how they begin; the others come as they are.
const NOTICES = {
  "ko": {
    "Nothing was found there.": "그곳에서 아무것도 찾지 못했습니다. 대상의 가운데를 클릭하세요.",
    "Nothing was found.": "아무것도 찾지 못했습니다. 직접 클릭하세요.",
    "The box is too small.": "상자가 너무 작습니다. 대상 전체를 둘러싸세요.",
    "There is nothing to exclude from yet.": "아직 제외할 것이 없습니다. 먼저 대상을 클릭하세요.",
    "There is nothing to erase yet.": "아직 지울 것이 없습니다. 먼저 클릭하거나 칠하세요.",
    "Nothing is selected yet.": "아직 선택된 것이 없습니다. 없앨 것을 클릭하세요.",
    "The selection was not followed yet.": "선택을 아직 추적하지 않았습니다. 먼저 추적을 누르세요.",
    "Something is still running.": "아직 작업 중입니다. 끝날 때까지 기다리거나 취소하세요.",
    "There is no such job.": "그런 작업이 없습니다. 삭제되었을 수 있으니 다시 시작하세요.",
    "You have as many jobs waiting as one may have.": "기다리는 작업이 너무 많습니다. 하나가 끝나기를 기다리거나 취소하세요.",
    "Everybody is busy": "모두 사용 중이라 대기열이 가득 찼습니다. 나중에 다시 시도하세요.",
    "Too many people are here just now.": "지금은 사용자가 너무 많습니다. 몇 분 뒤에 다시 시도하세요.",
    "There is no room for it on this machine just now.": "지금 이 컴퓨터에 공간이 없습니다. 나중에 다시 시도하세요.",
    "Something went wrong on our side.": "저희 쪽에서 문제가 생겼습니다. 다시 시도하세요."
  },
  "ja": {
    "Nothing was found there.": "そこには何も見つかりませんでした。対象の中央をクリックしてください。",
    "Nothing was found.": "何も見つかりませんでした。直接クリックしてください。",
    "Nothing is selected yet.": "まだ何も選択されていません。消したいものをクリックしてください。",
    "The selection was not followed yet.": "選択はまだ追跡されていません。先に「追跡」を押してください。",
    "Something is still running.": "まだ処理中です。終わるまで待つか、中止してください。",
    "There is no such job.": "その作業はありません。削除された可能性があります。最初からやり直してください。",
    "Everybody is busy": "混み合っています。後でもう一度お試しください。",
    "Something went wrong on our side.": "こちらで問題が起きました。もう一度お試しください。"
  },
  "zh": {
    "Nothing was found there.": "那里没有找到东西。请点击对象的中间。",
    "Nothing was found.": "没有找到。请直接点击。",
    "Nothing is selected yet.": "尚未选择任何东西。请点击要去掉的东西。",
    "The selection was not followed yet.": "选择尚未跟踪。请先按“跟踪”。",
    "Something is still running.": "仍在进行中。请等待完成，或取消。",
    "There is no such job.": "没有这个任务。它可能已被删除，请重新开始。",
    "Everybody is busy": "现在太忙，队列已满。请稍后再试。",
    "Something went wrong on our side.": "我们这边出了问题。请重试。"
  }
};

let speech = "en";

function chooseLanguage() {
  let kept = null;
  try { kept = localStorage.getItem("inpainterz-language"); } catch (error) { kept = null; }
  for (const wish of [kept, ...(navigator.languages || [navigator.language || "en"])]) {
    const short = String(wish || "").toLowerCase().split("-")[0];
    if (WORDS[short]) return short;
  }
  return "en";
}

function say(key, ...values) {
  const text = WORDS[speech][key] || WORDS.en[key] || key;
  return text.replace(/\{(\d)\}/g, (whole, index) => String(values[Number(index)]));
}

function translate(notice) {
  const known = Object.entries(NOTICES[speech] || {});
  const found = known.find(([begin]) => notice.toLowerCase().startsWith(begin.toLowerCase()));
  return found ? found[1] : notice;
}

function number(value, digits = 0) {
  return new Intl.NumberFormat(speech, { maximumFractionDigits: digits }).format(value);
}

function percent(value) {
  return new Intl.NumberFormat(speech, { style: "percent", maximumFractionDigits: 0 }).format(value);
}

function span(seconds) {
  if (seconds < 60) return say("seconds", number(seconds, 1));
  return say("minutes", number(Math.floor(seconds / 60)), number(Math.round(seconds % 60)));
}

function bytes(count) {
  if (count < 1e6) return number(Math.max(1, count / 1000)) + " kB";
  return count < 1e9 ? number(count / 1e6, 1) + " MB" : number(count / 1e9, 1) + " GB";
}

function speak() {
  document.documentElement.lang = speech;
  for (const node of element.querySelectorAll("[data-t]")) node.textContent = say(node.dataset.t);
  for (const node of element.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", say(node.dataset.tLabel));
  for (const node of element.querySelectorAll("[data-t-title]")) node.title = say(node.dataset.tTitle);
  for (const node of element.querySelectorAll("[data-t-hint]")) node.placeholder = say(node.dataset.tHint);
}
