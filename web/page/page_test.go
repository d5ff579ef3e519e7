package page_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// photo shows two cars on a road.
const photo = root + "/testdata/road.jpg"

// TestPage is a visit of the page, served by the real command with two models
// and a key, in a real browser. The subtests go on where the one before them
// ended.
func TestPage(t *testing.T) {
	v := open(t)
	for _, step := range []struct {
		name string
		do   func(*visit)
	}{
		{"key", giveKey},
		{"drop", dropPhoto},
		{"slider", moveSlider},
		{"filter", filterClasses},
		{"point", pointAtBox},
		{"zoom", zoomAndPan},
		{"save", saveFiles},
		{"paste", pasteSecond},
		{"refused", refusedFile},
		{"compare", compareModels},
		{"reports", loadReports},
		{"keyboard", keyboardAlone},
		{"live", showCamera},
		{"jobs", runJobs},
		{"train", trainModel},
		{"narrow", fitNarrow},
		{"accessible", accessible},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			w := *v
			w.T = t
			step.do(&w)
		})
		if !ok {
			v.complain()
			t.FailNow() // what follows builds on it
		}
	}
	v.complain()
}

// complain reports what stands in red in the browser's console, breaches of
// the content security policy among it.
func (v *visit) complain() {
	v.Helper()
	v.seen.mu.Lock()
	defer v.seen.mu.Unlock()
	for _, f := range v.seen.faults {
		v.Error(f)
	}
}

const (
	rows       = `document.querySelectorAll('.row').length`
	activeRows = `document.querySelectorAll('.row[data-active="true"]').length`
)

// colour is what a box is drawn in.
type colour [3]int

var (
	orange = colour{0xe6, 0x9f, 0x00} // the first class that is seen
	onlyA  = colour{0xf0, 0x8a, 0x24} // what one side of a comparison sees alone
	onlyB  = colour{0x4a, 0xa3, 0xff}
)

// painted counts the pixels of the n-th picture that have that colour, nearly:
// two frames from now, for pictures are drawn after the list.
func painted(v *visit, n int, c colour) int {
	v.Helper()
	return eval[int](v, fmt.Sprintf(`(async (n, ...colour) => {
		const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
		await frame()
		await frame()
		const shown = document.querySelectorAll('.stage canvas')[n]
		const copy = document.createElement('canvas')
		copy.width = shown.width
		copy.height = shown.height
		const ctx = copy.getContext('2d', { willReadFrequently: true })
		ctx.drawImage(shown, 0, 0)
		const { data } = ctx.getImageData(0, 0, copy.width, copy.height)
		let count = 0
		for (let i = 0; i < data.length; i += 4) if (colour.every((v, k) => Math.abs(v - data[i + k]) < 8)) count++
		return count
	})(%d, %d, %d, %d)`, n, c[0], c[1], c[2]))
}

// untilPainted waits for as many pixels as pass.
func untilPainted(v *visit, n int, c colour, pass func(pixels int) bool) {
	v.Helper()
	pixels := 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if pixels = painted(v, n, c); pass(pixels) {
			return
		}
	}
	v.Fatalf("%d pixels of picture %d have the colour %v", pixels, n, c)
}

func many(pixels int) bool { return pixels > 500 }
func none(pixels int) bool { return pixels < 50 }

func giveKey(v *visit) {
	v.until(`document.querySelector('dialog[open] #key') !== null`)
	v.run(chromedp.SendKeys(chromedp.CSS(`#key`), "not the key at all"+kb.Enter))
	v.until(`document.querySelector('dialog[open]')?.textContent.includes('does not take this key')`)
	eval[string](v, `document.querySelector('#key').value = ''`)
	v.run(chromedp.SendKeys(chromedp.CSS(`#key`), key+kb.Enter))
	v.until(`document.querySelector('dialog[open]') === null && document.querySelector('.invite') !== null`)
	v.shot("empty")
}

func dropPhoto(v *visit) {
	v.drop(photo)
	v.until(rows + ` === 2`)
	if got := eval[string](v, `document.querySelector('.rows').innerText`); strings.Count(got, "car") != 2 {
		v.Errorf("the list has no two cars: %q", got)
	}
	if got := eval[string](v, `document.querySelector('.stage canvas').ariaLabel`); !strings.HasPrefix(got, "road.jpg: 2 car") {
		v.Errorf("the picture's text is %q", got)
	}
	untilPainted(v, 0, orange, many)
	v.shot("detect")
}

func moveSlider(v *visit) {
	before, asked := painted(v, 0, orange), v.seen.count("POST detect")
	v.run(chromedp.Focus(chromedp.CSS(`#score`)))
	v.press(kb.Home)
	v.until(rows + ` > 5`)
	v.until(`document.querySelector('output').innerText === '0.05'`)
	v.press(kb.End)
	v.until(rows + ` === 0`)
	untilPainted(v, 0, orange, none)
	v.press(kb.Home, ".", ".", ".", ".", ".", ".", ".", ".", ".")
	v.until(`document.querySelector('output').innerText === '0.50' && ` + rows + ` === 2`)
	untilPainted(v, 0, orange, func(n int) bool { return n == before })
	if n := v.seen.count("POST detect"); n != asked || asked != 1 {
		v.Errorf("%d requests before the slider moved, %d after", asked, n)
	}
}

func filterClasses(v *visit) {
	v.click(`.chip`)
	v.until(rows + ` === 0`)
	v.click(`.chip[aria-pressed="false"]`)
	v.until(rows + ` === 2`)
	if n := v.seen.count("POST detect"); n != 1 {
		v.Errorf("the filter made %d requests", n-1)
	}
}

// middle is that of the red car in the window, in CSS pixels.
func middle(v *visit) (x, y float64) {
	v.Helper()
	at := eval[[]float64](v, `(() => {
		const r = document.querySelector('.stage canvas').getBoundingClientRect()
		const scale = Math.min(r.width / 768, r.height / 432)
		return [r.left + r.width / 2 + (380 - 384) * scale, r.top + r.height / 2 + (115 - 216) * scale]
	})()`)
	return at[0], at[1]
}

func mouse(v *visit, kind input.DispatchMouseEventType, x, y, wheel float64) {
	v.Helper()
	order(v, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, DeltaX: 1e-3, DeltaY: wheel})
}

func pointAtBox(v *visit) {
	x, y := middle(v)
	mouse(v, input.DispatchMouseEventTypeMouseMoved, x, y, 0)
	v.until(activeRows + ` === 1`)
	mouse(v, input.DispatchMouseEventTypeMouseMoved, x+300, y+150, 0)
	v.until(activeRows + ` === 0`)
	// And from the list to the picture: the other box steps back.
	all := painted(v, 0, orange)
	v.run(chromedp.Focus(chromedp.CSS(`.row`)))
	v.until(activeRows + ` === 1`)
	untilPainted(v, 0, orange, func(n int) bool { return n != all })
	v.press(kb.ArrowDown)
	v.until(`document.querySelectorAll('.row')[1].dataset.active === 'true'`)
	eval[bool](v, `document.activeElement.blur(), true`)
	v.until(activeRows + ` === 0`)
}

func zoomAndPan(v *visit) {
	const zoom = `document.querySelector('.tool-text').innerText`
	x, y := middle(v)
	mouse(v, input.DispatchMouseEventTypeMouseWheel, x, y, -400)
	v.until(zoom + ` !== '100 %'`)
	v.run(chromedp.Focus(chromedp.CSS(`.stage-frame`)))
	v.press("0")
	v.until(zoom + ` === '100 %'`)
	before := painted(v, 0, orange)
	v.press("+", "+", kb.ArrowLeft)
	v.until(zoom + ` === '196 %'`)
	untilPainted(v, 0, orange, func(n int) bool { return n != before })
	v.press("-", "-", "-")
	v.until(zoom + ` === '100 %'`)
}

// kept waits for a file that the page hands out.
func kept(v *visit, name string) []byte {
	v.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(v.dir, name)); err == nil && len(b) > 0 {
			return b
		}
	}
	v.Fatalf("%s was not saved", name)
	return nil
}

func saveFiles(v *visit) {
	v.press("s")
	var found struct {
		Image      string
		Width      int
		Detections []struct {
			Class string
			Box   [4]float64
		}
	}
	if err := json.Unmarshal(kept(v, "road.json"), &found); err != nil {
		v.Fatal(err)
	}
	if found.Image != "road.jpg" || found.Width != 768 || len(found.Detections) != 2 {
		v.Errorf("saved: %+v", found)
	}
	v.press("p")
	if b := kept(v, "road-detected.jpg"); !bytes.HasPrefix(b, []byte("\xff\xd8\xff")) {
		v.Error("the saved picture is no JPEG")
	}
}

// pasteSecond adds a picture from the clipboard, goes back and forth between
// the two, and removes it.
func pasteSecond(v *visit) {
	eval[bool](v, `fetch('sample.jpg').then((r) => r.blob()).then((b) => {
		const data = new DataTransfer()
		data.items.add(new File([b], 'pasted.jpg', { type: b.type }))
		return dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, cancelable: true })) || true
	})`)
	const shown = `document.querySelector('.film-pick[aria-current="true"]').title`
	v.until(shown + ` === 'pasted.jpg' && ` + rows + ` === 2`)
	asked := v.seen.count("POST detect")
	v.press("[")
	v.until(shown + ` === 'road.jpg' && ` + rows + ` === 2`)
	v.press("]")
	v.until(shown + ` === 'pasted.jpg' && ` + rows + ` === 2`)
	if n := v.seen.count("POST detect"); n != asked {
		v.Errorf("going back and forth made %d requests", n-asked)
	}
	v.click(`[aria-label="Remove pasted.jpg"]`)
	v.until(shown + ` === 'road.jpg' && document.querySelectorAll('.film').length === 1`)
}

func refusedFile(v *visit) {
	path := filepath.Join(v.dir, "notes.jpg")
	text := []byte("this is no picture")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		v.Fatal(err)
	}
	// What the server says to anybody.
	r, err := http.NewRequestWithContext(v.Context(), "POST", v.url+"/v1/detect", bytes.NewReader(text))
	if err != nil {
		v.Fatal(err)
	}
	r.Header.Set("Content-Type", "image/jpeg")
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		v.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		v.Fatal(err)
	}
	var refusal struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &refusal); err != nil || refusal.Error.Message == "" {
		v.Fatalf("%v: %s", err, body)
	}
	v.drop(path)
	v.until(`document.querySelector('.failure') !== null`)
	got := eval[string](v, `document.querySelector('.failure[role=alert]').innerText`)
	if !strings.Contains(got, refusal.Error.Code) || !strings.Contains(got, strings.ReplaceAll(refusal.Error.Message, "image", "notes.jpg")) && !strings.Contains(got, refusal.Error.Message) {
		v.Errorf("the page says %q, the server %q", got, refusal.Error.Message)
	}
	v.shot("refused")
	v.click(`[aria-label="Remove notes.jpg"]`)
	v.until(rows + ` === 2`)
}

func compareModels(v *visit) {
	v.show("compare")
	v.until(`document.querySelectorAll('.differences tbody tr').length > 0`)
	names := eval[[]string](v, `[...document.querySelectorAll('.side b')].map((b) => b.innerText)`)
	if len(names) != 2 || names[0] != fine || names[1] != coarse {
		v.Fatalf("compared are %v", names)
	}
	// The smaller picture leaves the red car below one half.
	untilPainted(v, 0, onlyA, many)
	untilPainted(v, 1, onlyA, func(n int) bool { return n > 100 }) // dashed
	untilPainted(v, 1, onlyB, none)
	if got := eval[string](v, `document.querySelector('.segment-a b').innerText`); got != "1" {
		v.Errorf("only A finds %s", got)
	}
	v.shot("compare")
	asked := v.seen.count("POST compare")
	v.press(",", ",", ",")
	v.until(`Number(document.querySelector('.segment-both b').innerText) > 1`)
	v.shot("compare-low")
	v.press(".", ".", ".")
	if n := v.seen.count("POST compare"); n != asked {
		v.Errorf("the slider made %d requests", n-asked)
	}
	v.press("x")
	v.until(`document.querySelector('.segment-b b')?.innerText === '1' && document.querySelector('.side b').innerText === '` + coarse + `'`)
	v.press("x")
	v.until(`document.querySelector('.segment-a b')?.innerText === '1'`)
}

func loadReports(v *visit) {
	data := filepath.Join(root, "testdata/fixtures/eval/coco_small")
	truth, found := "coco:"+filepath.Join(data, "gt.json"), filepath.Join(data, "dt.json")
	// The baseline misses every second detection.
	var all []json.RawMessage
	b, err := os.ReadFile(found)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		v.Fatal(err)
	}
	var half []json.RawMessage
	for i := 0; i < len(all); i += 2 {
		half = append(half, all[i])
	}
	if b, err = json.Marshal(half); err != nil {
		v.Fatal(err)
	}
	worse := filepath.Join(v.dir, "half.json")
	if err := os.WriteFile(worse, b, 0o600); err != nil {
		v.Fatal(err)
	}
	report := func(name string, args ...string) string {
		out, err := exec.Command(v.program, append(args, "--json", "--quiet")...).Output()
		if err != nil {
			v.Fatal(err)
		}
		path := filepath.Join(v.dir, name)
		if err := os.WriteFile(path, out, 0o600); err != nil {
			v.Fatal(err)
		}
		return path
	}
	evalA := report("baseline.json", "eval", "--data", truth, "--detections", worse)
	evalB := report("candidate.json", "eval", "--data", truth, "--detections", found)
	gain := report("gain.json", "compare", "--data", truth, "--baseline", worse, "--candidate", found, "--samples", "200")
	var want struct{ Gain, Baseline float64 }
	b, err = os.ReadFile(gain)
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		v.Fatal(err)
	}
	points := strings.TrimSuffix(strings.TrimPrefix(formatGain(want.Gain), " "), "\n")

	v.show("gain")
	v.until(`document.querySelector('.paper') !== null`)
	v.shot("gain-empty")
	// Two evaluations make a gain without an interval; the comparison has it.
	v.drop(evalA, evalB)
	v.until(`document.querySelector('.big')?.innerText.startsWith('` + points + `')`)
	if got := eval[string](v, `document.querySelector('.headline').innerText`); !strings.Contains(got, "Without an interval") {
		v.Errorf("the headline reads %q", got)
	}
	if n := eval[int](v, `document.querySelectorAll('.plot .curve').length`); n != 2 {
		v.Errorf("%d curves of two reports", n)
	}
	v.drop(gain)
	v.until(`document.querySelector('.headline').innerText.includes('95 % interval')`)
	if got := eval[string](v, `document.querySelector('.big').innerText`); !strings.HasPrefix(got, points) {
		v.Errorf("the gain is %q, want %s", got, points)
	}
	if got := eval[string](v, `document.querySelector('.paper').innerText`); !strings.Contains(got, "21.2") || !strings.Contains(got, "+28 %") {
		v.Errorf("beside it stands %q", got)
	}
	if n := eval[int](v, `document.querySelectorAll('.gains .win, .gains .loss').length`); n < 4 {
		v.Errorf("%d bars", n)
	}
	v.run(chromedp.SetValue(chromedp.CSS(`#curve-class`), "class4"))
	v.shot("gain")
	// A file that is no report is told of.
	v.drop(worse)
	v.until(`document.querySelector('.notice')?.innerText.includes('half.json is JSON, but no report')`)
	v.click(`.notice button`)
}

func formatGain(g float64) string {
	b, _ := json.Marshal(float64(int(1000*g+0.5)) / 10) // the gain is positive
	text := string(b)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return "+" + text
}

// keyboardAlone starts anew and comes to boxes and back without a mouse.
func keyboardAlone(v *visit) {
	v.run(chromedp.Navigate(v.url+"/#detect"), chromedp.Reload())
	v.until(`document.querySelector('.invite') !== null`)
	tabTo := func(what string) {
		v.Helper()
		for range 40 {
			v.press(kb.Tab)
			if eval[bool](v, `(() => { const e = document.activeElement
				const outlined = getComputedStyle(e).outlineStyle !== 'none' || getComputedStyle(e.nextElementSibling ?? e).boxShadow !== 'none'
				return outlined && (e.innerText + ' ' + (e.ariaLabel ?? '') + ' ' + e.id).includes(`+"`"+what+"`"+`) })()`) {
				return
			}
		}
		v.Fatalf("Tab does not come to %q with a visible focus", what)
	}
	tabTo("Skip to the content")
	v.press(kb.Enter)
	if got := eval[string](v, `document.activeElement.id`); got != "main" {
		v.Errorf("the skip link goes to %q", got)
	}
	tabTo("Try a sample")
	v.press(kb.Enter)
	v.until(rows + ` === 2`)
	if got := eval[string](v, `document.querySelector('.credit').innerText`); !strings.Contains(got, "CC BY 4.0") {
		v.Errorf("the sample's credit is %q", got)
	}
	tabTo("score")
	v.press(kb.ArrowLeft)
	v.until(`document.querySelector('output').innerText === '0.49'`)
	tabTo("car")
	v.press(" ")
	v.until(rows + ` === 0`)
	v.press(" ")
	v.until(rows + ` === 2`)
	tabTo("car\n")
	v.until(activeRows + ` === 1`)
	v.press("?")
	v.until(`document.querySelector('dialog[open]')?.innerText.includes('open pictures')`)
	v.shot("keys")
	v.press(kb.Escape)
	v.until(`document.querySelector('dialog[open]') === null`)
	v.press("t", "t")
	v.until(`document.documentElement.dataset.theme === 'dark' && getComputedStyle(document.body).colorScheme === 'dark'`)
	v.press("t", "2")
	v.until(`document.querySelectorAll('.side').length === 2`)
	v.press("1")
	v.until(rows + ` === 2`)
}

func showCamera(v *visit) {
	v.show("live")
	v.until(`document.querySelector('.stage-cover button') !== null`)
	v.shot("live-off")
	v.click(`.stage-cover button`)
	v.until(`Number(document.querySelector('#live-answered')?.innerText) >= 3 && ` + rows + ` >= 1`)
	untilPainted(v, 0, orange, many)
	if got := eval[string](v, `document.querySelector('#live-delay').innerText`); strings.HasPrefix(got, "0") {
		v.Errorf("the delay is %s", got)
	}
	v.shot("live")
	v.click(`.panel-foot button`)
	v.until(`document.querySelector('.gauges') === null`)
}

// archive writes a zip of n times the photo.
func archive(v *visit, name string, n int) string {
	v.Helper()
	photo, err := os.ReadFile(photo)
	if err != nil {
		v.Fatal(err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "photo" + string(rune('a'+i)) + ".jpg", Method: zip.Store})
		if err == nil {
			_, err = w.Write(photo)
		}
		if err != nil {
			v.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		v.Fatal(err)
	}
	path := filepath.Join(v.dir, name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		v.Fatal(err)
	}
	return path
}

func runJobs(v *visit) {
	v.show("jobs")
	v.until(`document.querySelector('.options') !== null`)
	v.shot("jobs-empty")
	const state = `document.querySelector('.joblist .state')?.innerText`
	v.click(`#annotate`)
	v.drop(archive(v, "räder.zip", 3))
	v.until(state + ` === 'done'`)
	v.click(`.joblist .button-row button`)
	lines := strings.Split(strings.TrimSpace(string(kept(v, "räder.jsonl"))), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"class":"car"`) {
		v.Errorf("the results are %q", lines)
	}
	if n := v.seen.count("GET jobs/"); n == 0 {
		v.Error("the job's events were not asked for")
	}
	v.click(`.joblist .button-row button:nth-child(2)`)
	z, err := zip.NewReader(bytes.NewReader(kept(v, "räder-annotated.zip")), int64(len(kept(v, "räder-annotated.zip"))))
	if err != nil || len(z.File) != 3 {
		v.Errorf("the drawn pictures: %v", err)
	}
	v.click(`#annotate`)
	// A video, which is watched and then cancelled on its way.
	frame, err := os.ReadFile(photo)
	if err != nil {
		v.Fatal(err)
	}
	film := filepath.Join(v.dir, "road.mjpeg")
	if err := os.WriteFile(film, bytes.Repeat(frame, 60), 0o600); err != nil {
		v.Fatal(err)
	}
	v.drop(film)
	v.until(`document.querySelector('.joblist li:first-child .button-row').innerText.includes('Watch')`)
	v.click(`.joblist .button-row button`)
	v.until(`document.querySelector('canvas.watch')?.width === 768 && /[1-9]\d* so far/.test(document.querySelector('.joblist li').innerText)`)
	v.shot("jobs")
	v.click(`.joblist li:first-child .button.quiet`)
	v.until(`document.querySelectorAll('.joblist li').length === 1 || ` + state + ` === 'cancelled'`)
	// What is neither a video nor an archive is refused by the server.
	path := filepath.Join(v.dir, "notes.zip")
	if err := os.WriteFile(path, []byte("this is no archive"), 0o600); err != nil {
		v.Fatal(err)
	}
	v.drop(path)
	v.until(`document.querySelector('.notice')?.innerText.startsWith('notes.zip: ')`)
	v.click(`.notice button`)
}

// trainModel sends a data set with a box that leaves its photo, and then a good
// one: the curve comes, and the model is compared with the one that it started
// from.
func trainModel(v *visit) {
	const state = `document.querySelector('.joblist .state')?.innerText`
	v.show("jobs")
	v.click(`.training-form summary`)
	v.run(chromedp.SetValue(chromedp.CSS(`#train-start`), tiny))
	eval[bool](v, `document.querySelector('#train-start').dispatchEvent(new Event('change', { bubbles: true }))`)
	v.run(chromedp.SendKeys(chromedp.CSS(`#train-steps`), "10"))
	v.shot("train-form")
	choose := func(path string) {
		v.Helper()
		v.run(chromedp.SetUploadFiles(chromedp.CSS(`#choose-data`), []string{path}))
	}
	choose(shapes(v, v.dir, "wrong.zip", 4, 400))
	v.until(state + ` === 'failed'`)
	if got := eval[string](v, `document.querySelector('.joblist .failure-text').innerText`); !strings.Contains(got, "a.xml") || !strings.Contains(got, "object 0") {
		v.Errorf("the page says %q", got)
	}
	v.shot("train-failed")
	v.run(chromedp.SendKeys(chromedp.CSS(`#train-name`), "shapes"))
	choose(shapes(v, v.dir, "good.zip", 6, 0))
	v.until(state + ` === 'running' || ` + state + ` === 'done'`)
	v.until(state + ` === 'done'`)
	v.until(`document.querySelector('.joblist .curve-total')?.getAttribute('points').includes(' ') && document.querySelectorAll('.joblist .curve-score-dot').length > 0`)
	if got := eval[string](v, `document.querySelector('.joblist svg.plot').ariaLabel`); !strings.Contains(got, "at step 10") || !strings.Contains(got, "mAP") {
		v.Errorf("the curve's text is %q", got)
	}
	v.shot("train")
	v.click(`.joblist li:first-child .button.main`)
	v.until(`location.hash === '#compare'`)
	v.drop(photo)
	v.until(`[...document.querySelectorAll('.side b')].map((b) => b.innerText).join() === '` + tiny + `,shapes'`)
	v.until(`document.querySelectorAll('.differences, .empty-list').length > 0`)
	v.show("jobs")
	v.click(`.joblist li:first-child .button.quiet`) // with its model
	v.until(`!document.querySelector('.joblist').innerText.includes('shapes')`)
	v.until(`![...document.querySelector('#train-start').options].some((o) => o.value === 'shapes')`)
}

// fitNarrow: no view is wider than a phone.
func fitNarrow(v *visit) {
	v.size(360, 740)
	for _, view := range []string{"detect", "compare", "live", "gain", "jobs"} {
		v.show(view)
		v.until(`location.hash === '#` + view + `'`)
		if wide := eval[int](v, `document.documentElement.scrollWidth`); wide > 360 {
			v.Errorf("%s is %d pixels wide", view, wide)
		}
	}
	v.size(1280, 800)
}

// accessible runs axe over every view, light on a desktop and dark on a phone.
func accessible(v *visit) {
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		v.Skip("axe-core is not installed: npm ci in web/page installs it")
	}
	eval[bool](v, string(axe)+`; true`)
	for _, view := range []string{"detect", "compare", "live", "gain", "jobs"} {
		v.show(view)
		v.until(`location.hash === '#` + view + `'`)
		for _, look := range []struct {
			scheme string
			width  int64
		}{{"light", 1280}, {"dark", 390}} {
			v.colours(look.scheme)
			v.size(look.width, 800)
			for _, problem := range eval[[]string](v, `axe.run(document, { resultTypes: ['violations'] }).then((r) =>
				r.violations.flatMap((p) => p.nodes.map((n) => p.id + ': ' + n.target + ' ' + n.failureSummary)))`) {
				v.Errorf("%s, %s, %d wide: %s", view, look.scheme, look.width, problem)
			}
		}
	}
	v.colours("light")
	v.size(1280, 800)
}
