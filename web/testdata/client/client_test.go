// Package client is generated from the server's OpenAPI document when
// TestGeneratedClient of package web runs; what is kept here calls every
// operation with it, on the server at RESDET_URL.
package client

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/speakeasy-api/openapi/openapi"
)

// A second validator than the server's own tests have finds nothing in the
// document.
func TestDocument(t *testing.T) {
	f, err := os.Open("openapi.json")
	if err != nil {
		t.Skip("the document is here only while TestGeneratedClient runs")
	}
	defer f.Close()
	_, faults, err := openapi.Unmarshal(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

func photo(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, width, height)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCalls(t *testing.T) {
	url := os.Getenv("RESDET_URL")
	if url == "" {
		t.Skip("RESDET_URL names no server")
	}
	c, err := NewClientWithResponses(url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check := func(what string, err error, status, want int, body []byte) {
		t.Helper()
		if err != nil || status != want {
			t.Fatalf("%s: %d %v %.300s", what, status, err, body)
		}
	}

	health, err := c.HealthWithResponse(ctx)
	check("health", err, health.StatusCode(), 200, health.Body)
	ready, err := c.ReadyWithResponse(ctx)
	check("ready", err, ready.StatusCode(), 200, ready.Body)
	metrics, err := c.MetricsWithResponse(ctx)
	check("metrics", err, metrics.StatusCode(), 200, metrics.Body)
	document, err := c.GetOpenAPIWithResponse(ctx)
	check("document", err, document.StatusCode(), 200, document.Body)
	docs, err := c.GetDocsWithResponse(ctx)
	check("docs", err, docs.StatusCode(), 200, docs.Body)
	page, err := c.GetPageWithResponse(ctx)
	check("page", err, page.StatusCode(), 200, page.Body)
	models, err := c.ListModelsWithResponse(ctx)
	check("models", err, models.StatusCode(), 200, models.Body)
	if m := models.JSON200.Models; len(m) != 2 || !m[0].Default || len(m[0].Classes) != 2 {
		t.Errorf("models %+v", m)
	}

	score, classes := Score(0.1), Classes{"cat", "dog"}
	found, err := c.DetectWithBodyWithResponse(ctx, &DetectParams{Score: &score, Classes: &classes}, "image/jpeg", bytes.NewReader(photo(t, 60, 40)))
	check("detect", err, found.StatusCode(), 200, found.Body)
	result, err := found.JSON200.AsResult()
	if err != nil || result.Width != 60 || len(result.Detections) != 2 || result.Detections[0].Class != "cat" || len(result.Detections[0].Box) != 4 {
		t.Errorf("detect: %v %+v", err, result)
	}
	wrong := Score(7)
	refused, err := c.DetectWithBodyWithResponse(ctx, &DetectParams{Score: &wrong}, "image/jpeg", bytes.NewReader(nil))
	check("detect with a wrong score", err, refused.StatusCode(), 400, refused.Body)
	if e := refused.JSON4XX.Error; e.Code != "bad_parameter" || e.RequestId == "" {
		t.Errorf("error %+v", e)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for i := range 2 {
		part, err := w.CreateFormFile("image", fmt.Sprintf("%d.jpg", i))
		if err != nil {
			t.Fatal(err)
		}
		part.Write(photo(t, 10+i, 10))
	}
	w.Close()
	several, err := c.DetectWithBodyWithResponse(ctx, nil, w.FormDataContentType(), &form)
	check("detect several", err, several.StatusCode(), 200, several.Body)
	if r, err := several.JSON200.AsResults(); err != nil || len(r.Results) != 2 {
		t.Errorf("several: %v %+v", err, r)
	}
	compared, err := c.CompareWithBodyWithResponse(ctx, &CompareParams{A: "a", B: "b"}, "image/jpeg", bytes.NewReader(photo(t, 80, 60)))
	check("compare", err, compared.StatusCode(), 200, compared.Body)
	if n := len(compared.JSON200.Matches); n != 2 {
		t.Errorf("%d matches", n)
	}

	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for i := range 3 {
		f, err := z.Create(fmt.Sprintf("%d.jpg", i))
		if err != nil {
			t.Fatal(err)
		}
		f.Write(photo(t, 20, 10))
	}
	z.Close()
	name, annotate := "three.zip", true
	created, err := c.CreateJobWithBodyWithResponse(ctx, &CreateJobParams{Name: &name, Annotate: &annotate}, "application/octet-stream", &archive)
	check("create a job", err, created.StatusCode(), 202, created.Body)
	id := created.JSON202.Id
	if !strings.HasSuffix(created.HTTPResponse.Header.Get("Location"), id) {
		t.Errorf("Location %q", created.HTTPResponse.Header.Get("Location"))
	}
	elsewhere, err := c.CreateJobWithResponse(ctx, nil, CreateJobJSONRequestBody{Url: "http://127.0.0.1/x.mp4"})
	if err != nil || elsewhere.StatusCode()/100 != 4 || elsewhere.JSON4XX == nil {
		t.Errorf("a job that fetches: %v %d %s", err, elsewhere.StatusCode(), elsewhere.Body)
	}
	events, err := c.GetJobEventsWithResponse(ctx, id) // returns with the job's end
	check("events", err, events.StatusCode(), 200, events.Body)
	if !strings.Contains(string(events.Body), "event: end") && !strings.Contains(string(events.Body), "event:end") {
		t.Errorf("events %s", events.Body)
	}
	job, err := c.GetJobWithResponse(ctx, id)
	check("job", err, job.StatusCode(), 200, job.Body)
	if j := job.JSON200; j.State != JobStateDone || j.Progress.Done != 3 || j.Kind != JobKindImages {
		t.Errorf("job %+v", j)
	}
	all, err := c.ListJobsWithResponse(ctx)
	check("jobs", err, all.StatusCode(), 200, all.Body)
	if n := len(all.JSON200.Jobs); n != 1 {
		t.Errorf("%d jobs", n)
	}
	lines, err := c.GetJobResultsWithResponse(ctx, id)
	check("results", err, lines.StatusCode(), 200, lines.Body)
	if n := bytes.Count(lines.Body, []byte("\n")); n != 3 {
		t.Errorf("%d lines", n)
	}
	drawn, err := c.GetJobAnnotatedWithResponse(ctx, id)
	check("annotated", err, drawn.StatusCode(), 200, drawn.Body)
	if _, err := zip.NewReader(bytes.NewReader(drawn.Body), int64(len(drawn.Body))); err != nil {
		t.Error(err)
	}
	var set bytes.Buffer
	z = zip.NewWriter(&set)
	for name, data := range map[string][]byte{"a.jpg": photo(t, 20, 10), "a.xml": []byte("<annotation/>")} {
		f, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(data)
	}
	z.Close()
	kind, steps := CreateJobParamsKindTrain, 3
	training, err := c.CreateJobWithBodyWithResponse(ctx, &CreateJobParams{Kind: &kind, Steps: &steps}, "application/zip", &set)
	check("train", err, training.StatusCode(), 202, training.Body)
	if _, err := c.GetJobEventsWithResponse(ctx, training.JSON202.Id); err != nil {
		t.Error(err)
	}
	trained, err := c.GetJobWithResponse(ctx, training.JSON202.Id)
	check("the training", err, trained.StatusCode(), 200, trained.Body)
	if j := trained.JSON200; j.State != JobStateDone || j.Training == nil || j.Training.Losses == nil || len(*j.Training.Losses) != 3 {
		t.Errorf("training %+v", j)
	}
	stream, err := c.GetJobStreamWithResponse(ctx, id) // the job has ended
	if err != nil || stream.StatusCode()/100 != 4 {
		t.Errorf("stream of a job that has ended: %v %d", err, stream.StatusCode())
	}
	live, err := c.LiveWithResponse(ctx, nil) // without a WebSocket's handshake
	if err != nil || live.StatusCode() != http.StatusUpgradeRequired || live.JSON4XX == nil {
		t.Errorf("live: %v %d %s", err, live.StatusCode(), live.Body)
	}
	removed, err := c.DeleteJobWithResponse(ctx, id)
	check("remove the job", err, removed.StatusCode(), 204, removed.Body)
}
