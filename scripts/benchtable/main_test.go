package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const lines = `resdet	vgg16	f32	{"device":"cpu (oneDNN 2.6.3, avx512_core, 2 threads)","input":[1,3,608,1024],"regions":300,"seconds":0.6,"gflops":773,"peak_mb":1220,"limits":{"f32_gflops":310,"bf16_gflops":94,"int8_gops":730}}
peer	vgg16	f32	{"peer":"onnxruntime-node","median":1.5,"rss_mb":1410,"nclean":3}
peer	vgg16	f32	{"peer":"torch1.13","variant":"jit","median":2.7,"rss_mb":1404,"nclean":3}
resdet	vgg16	bf16	{"input":[1,3,608,1024],"regions":300,"seconds":0.3,"gflops":1546,"peak_mb":900}
peer	vgg16	bf16	{"peer":"torch1.13","variant":"bf16_all","median":0.9,"rss_mb":1300,"nclean":0}
resdet	vgg16	train	{"input":[1,3,608,1024],"seconds":4,"gflops":300,"peak_mb":2000}
resdet	vgg16	train bf16	{"input":[1,3,608,1024],"seconds":2,"gflops":600,"peak_mb":1800}
peer	vgg16	train	{"peer":"torch1.13","variant":"train","median":5,"rss_mb":3000,"nclean":3}
resdet	the default model	int8	{"input":[1,3,320,480],"regions":300,"seconds":0.05,"gflops":1200,"peak_mb":300}
`

const want = `On cpu (oneDNN 2.6.3, avx512_core, 2 threads); matrix products at 310 GFLOP/s in f32, 94 in bf16, 730 GOP/s in int8.

| network | input, regions | GMAC | precision | resdet | peak memory | fastest peer | its memory | ratio |
|---|---|---|---|---|---|---|---|---|
| vgg16 | 608×1024, 300 | 232 | f32 | **600 ms** | 1.22 GB | 1.50 s, onnxruntime-node | 1.41 GB | **2.50×** |
| vgg16 | 608×1024, 300 | 232 | bf16 | **300 ms** | 0.90 GB | 900 ms, torch1.13 bf16 | 1.30 GB | **3.00×** * |
| vgg16 | 608×1024 | 600 | f32, a step of training | **4.00 s** | 2.00 GB | 5.00 s, torch1.13 | 3.00 GB | **1.25×** |
| vgg16 | 608×1024 | 600 | bf16, a step of training | **2.00 s** | 1.80 GB | 5.00 s, torch1.13 | 3.00 GB | **2.50×** |
| the default model | 320×480, 300 | 30 | int8 | **50 ms** | 0.30 GB | – | – | – |

\* something else was running while the peer was measured.
`

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := run(strings.NewReader(lines), &out, ""); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("a\n"+begin+"\nold\n"+end+"\nb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second run changes nothing more
		if err := run(strings.NewReader(lines), nil, path); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "a\n"+begin+"\n"+want+end+"\nb\n" {
			t.Errorf("the file is\n%s", got)
		}
	}
}

func TestBadLines(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":   "",
		"fields":    "resdet\tvgg16\tf32\n",
		"who":       "they\tvgg16\tf32\t{}\n",
		"no JSON":   "resdet\tvgg16\tf32\t{\n",
		"no time":   "resdet\tvgg16\tf32\t{}\n",
		"peer":      "peer\tvgg16\tf32\t{}\n",
		"peer JSON": "peer\tvgg16\tf32\t[]\n",
	} {
		if err := run(strings.NewReader(text), nil, ""); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("no markers"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(strings.NewReader(lines), nil, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v of a file without markers", err)
	}
}
