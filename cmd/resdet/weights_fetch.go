package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"resdet"
	"resdet/internal/fetch"
)

type fetchOptions struct {
	importOptions
	list, downloadOnly bool
	limit              int64 // MB
}

func newFetchCommand(s streams) *cobra.Command {
	var o fetchOptions
	cmd := &cobra.Command{
		Use:   "fetch NAME",
		Short: "Download published weights and make a model file of them",
		Long: `Download published weights from their owner's address and make a model file of them.

--list lists the names with licence, training data, published score, and by what a file is verified; --list NAME says all
that is known of one, and where it was read. Files go to a folder (RESDET_CACHE, or resdet in the user's cache folder) and
are downloaded once; a download that was cut off goes on where it was. Files without a published checksum are unverified:
the SHA-256 of the first download is remembered, and another file under that address is then an error. Without a network
the error says which file to put where.

A detector becomes the model that it was published as; --classes and --partial make one for other classes of it. A
backbone becomes a new detector on it, whose classes must be given, to be trained.`,
		Example: `  resdet weights fetch --list
  resdet weights fetch fasterrcnn-resnet50-fpn
  resdet weights fetch detectron2-r101-c4-3x --classes-from voc --partial --out voc.safetensors
  resdet weights fetch resnet101 --classes cat,dog --out start.safetensors
  resdet weights fetch vgg16 --download-only`,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			if o.list {
				return nil
			}
			return cobra.ExactArgs(1)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return runFetchList(s, o, args)
			}
			return runFetch(cmd.Context(), s, o, args[0])
		},
	}
	f := cmd.Flags()
	o.add(f)
	f.Lookup("out").Usage = "model file to write (default NAME.safetensors)"
	f.BoolVar(&o.list, "list", false, "list the published files, or say all that is known of those named")
	f.BoolVar(&o.downloadOnly, "download-only", false, "download and verify the file, and print where it is")
	f.Int64Var(&o.limit, "limit", 4096, "most that may be downloaded, in MB")
	return cmd
}

// findPublished returns the named entries of the table.
func findPublished(names []string) ([]fetch.Published, error) {
	if len(names) == 0 {
		return fetch.Table, nil
	}
	var found []fetch.Published
	for _, name := range names {
		p, ok := fetch.Find(name)
		if !ok {
			hint := "resdet weights fetch --list lists them"
			if near := fetch.Near(name); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "? " + hint
			}
			return nil, usageError{hintError{fmt.Errorf("no published file is called %q", name), hint}}
		}
		found = append(found, p)
	}
	return found, nil
}

// fetched is what fetch says of a file.
type fetched struct {
	Name       string          `json:"name"`
	URL        string          `json:"url"`
	Path       string          `json:"path"`
	Bytes      int64           `json:"bytes"`
	SHA256     string          `json:"sha256"`
	Verified   string          `json:"verified"` // by what; "unverified" if nothing is published
	Downloaded bool            `json:"downloaded"`
	Import     json.RawMessage `json:"import,omitempty"`
}

func runFetch(ctx context.Context, s streams, o fetchOptions, name string) error {
	found, err := findPublished([]string{name})
	if err != nil {
		return err
	}
	p := found[0]
	in, err := o.importing(p)
	if err != nil {
		return err
	}
	if o.limit < 1 || o.limit > 1<<20 {
		return usagef("--limit %d is not in 1…%d MB", o.limit, 1<<20)
	}
	dir, err := fetch.CacheDir()
	if err != nil {
		return err
	}
	c := fetch.DefaultConfig(dir)
	c.Limit = o.limit << 20
	bar := newByteBar(s.err, p.Name, o.asJSON)
	c.Progress = bar.progress
	got, err := c.Get(ctx, p.File)
	bar.stop()
	if err != nil {
		return err
	}
	r := fetched{p.Name, p.URL, got.Path, got.Bytes, got.SHA256, got.Verified, got.Downloaded, nil}
	if r.Verified == "" {
		r.Verified = "unverified"
	}
	if !o.asJSON {
		if o.downloadOnly {
			fmt.Fprintln(s.out, r.Path)
			fmt.Fprintf(s.err, "%s: %d bytes, SHA-256 %s, %s\n", p.Name, r.Bytes, r.SHA256, r.Verified)
			return nil
		}
		fmt.Fprintf(s.out, "%s: %s, %d bytes, SHA-256 %s, %s\n%s; trained on %s; licence: %s\n\n", p.Name, r.Path, r.Bytes, r.SHA256, r.Verified, p.Title, p.Data, p.License)
		return runImport(s, in, got.Path)
	}
	if !o.downloadOnly {
		var report bytes.Buffer
		if err := runImport(streams{s.in, &report, s.err}, in, got.Path); err != nil {
			return err
		}
		r.Import = bytes.TrimSpace(report.Bytes())
	}
	return encodeJSON(s.out, r)
}

// importing returns how a published file is imported.
func (o fetchOptions) importing(p fetch.Published) (importOptions, error) {
	in := o.importOptions
	own := in.classes != nil || in.classesFrom != ""
	switch {
	case o.downloadOnly:
		return in, nil
	case p.Backbone() && !own:
		return in, usagef("%s is a backbone: --classes or --classes-from says what the detector on it is to find (or --download-only)", p.Name)
	case p.Backbone():
		in.partial = true // what else is there to want
	case !own:
		in.classesFrom = p.Classes
	case in.fileClasses == nil:
		in.fileClasses = []string{p.Classes}
	}
	if in.arch == "" && in.config == "" {
		in.arch = p.Arch
	}
	in.family = p.Family
	if in.out == "" {
		in.out = p.Name + ".safetensors"
	}
	known := struct {
		Provenance resdet.Provenance `json:"provenance"`
	}{resdet.Provenance{Source: p.URL, License: p.License, Data: p.Data}}
	if p.Score > 0 && !p.Backbone() {
		known.Provenance.Scores = map[string]float64{p.Metric + " (published)": p.Score}
	}
	text, err := json.Marshal(known)
	if err != nil {
		return in, err
	}
	in.published = [][]byte{text}
	if p.Config != "" {
		in.published = append(in.published, []byte(p.Config))
	}
	return in, nil
}

// listed is what the list says of a file.
type listed struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`
	Kind     string        `json:"kind"` // detector or backbone
	Arch     string        `json:"arch"`
	Family   string        `json:"family"`
	Classes  string        `json:"classes,omitempty"`
	Data     string        `json:"data"`
	Metric   string        `json:"metric,omitempty"`
	Score    float64       `json:"score,omitempty"`
	License  string        `json:"license"`
	Page     string        `json:"page"`
	URL      string        `json:"url"`
	Member   string        `json:"member,omitempty"`
	Verified bool          `json:"verified"`
	Checks   []listedCheck `json:"checks"`
	Read     []string      `json:"read"`
}

type listedCheck struct {
	Algorithm string `json:"algorithm"`
	Hex       string `json:"hex"`
	Read      string `json:"read"`
}

func newListed(p fetch.Published) listed {
	l := listed{Name: p.Name, Title: p.Title, Kind: "detector", Arch: p.Arch, Family: p.Family, Classes: p.Classes, Data: p.Data, Metric: p.Metric,
		Score: p.Score, License: p.License, Page: p.Page, URL: p.URL, Member: p.Member, Verified: len(p.Checks)+len(p.MemberChecks) > 0,
		Checks: []listedCheck{}, Read: p.Read}
	if p.Backbone() {
		l.Kind = "backbone"
	}
	for _, c := range append(p.Checks[:len(p.Checks):len(p.Checks)], p.MemberChecks...) {
		l.Checks = append(l.Checks, listedCheck(c))
	}
	return l
}

// by says in a few words how a file is verified.
func (l listed) by() string {
	if !l.Verified {
		return "unverified"
	}
	c := l.Checks[0]
	return c.Algorithm + " " + c.Hex[:min(len(c.Hex), 8)]
}

func (l listed) score() string {
	if l.Score == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", l.Score)
}

func runFetchList(s streams, o fetchOptions, names []string) error {
	found, err := findPublished(names)
	if err != nil {
		return err
	}
	files := make([]listed, len(found))
	for i, p := range found {
		files[i] = newListed(p)
	}
	if o.asJSON {
		return encodeJSON(s.out, map[string][]listed{"files": files})
	}
	if len(names) > 0 {
		for _, l := range files {
			l.write(s.out)
		}
		return nil
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "NAME\tKIND\tARCHITECTURE\tTRAINED ON\tPUBLISHED\tOF\tVERIFIED BY\tLICENCE\tSOURCE\n")
	for _, l := range files {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Kind, l.Arch, l.Data, l.score(), l.Metric, l.by(), l.License, l.Page)
	}
	return t.Flush()
}

// write says all that is known of one file.
func (l listed) write(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n", l.Name, l.Title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(t, "  %s\t%s\n", what, text)
		}
	}
	line("kind", l.Kind+", "+l.Arch)
	line("classes", l.Classes)
	line("trained on", l.Data)
	if l.Score > 0 {
		line("published", l.score()+" "+l.Metric)
	}
	line("licence", l.License)
	line("source", l.Page)
	line("address", l.URL)
	line("member", l.Member)
	if !l.Verified {
		line("checksum", "none is published: unverified, pinned at the first download")
	}
	for _, c := range l.Checks {
		line("checksum", c.Algorithm+" "+c.Hex)
		line("", "read in "+c.Read)
	}
	for _, r := range l.Read {
		line("read in", r)
	}
	t.Flush()
}

func encodeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// byteBar shows a download, on a terminal only.
type byteBar struct {
	err  io.Writer
	name string
	all  *mpb.Progress
	bar  *mpb.Bar
}

func newByteBar(errw io.Writer, name string, quiet bool) *byteBar {
	if quiet || !isTerminal(errw) {
		return &byteBar{}
	}
	return &byteBar{err: errw, name: name}
}

func (b *byteBar) progress(done, total int64) {
	if b.err == nil {
		return
	}
	if b.bar == nil {
		b.all = mpb.New(mpb.WithOutput(b.err), mpb.WithWidth(48))
		b.bar = b.all.AddBar(max(total, 0),
			mpb.PrependDecorators(decor.Name(b.name+" "), decor.CountersKibiByte("% .1f / % .1f")),
			mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name("  ETA "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	b.bar.SetCurrent(done)
}

// stop ends the bar where it stands.
func (b *byteBar) stop() {
	if b.bar == nil {
		return
	}
	if !b.bar.Completed() {
		b.bar.Abort(false)
	}
	b.all.Wait()
	b.bar, b.err = nil, nil
}
