package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openapiYAML []byte

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS []byte

// description is the OpenAPI document as JSON, and the page made of it.
type description struct{ document, page []byte }

// described builds both once. They are part of the program: that they are well
// formed is for the tests.
var described = sync.OnceValues(func() (description, error) {
	document, err := yaml.YAMLToJSON(openapiYAML)
	if err != nil {
		return description{}, fmt.Errorf("web: openapi.yaml: %w", err)
	}
	page, err := docsPage(document)
	return description{document, page}, err
})

func (s *Server) docRoutes(r *gin.RouterGroup) {
	r.GET("/openapi.json", s.handle(func(c *gin.Context) error {
		d, err := described()
		if err == nil {
			s.send(c, 200, "application/json; charset=utf-8", d.document)
		}
		return err
	}))
	r.GET("/docs", s.handle(func(c *gin.Context) error {
		d, err := described()
		if err == nil {
			s.send(c, 200, "text/html; charset=utf-8", d.page)
		}
		return err
	}))
	r.GET("/docs.css", func(c *gin.Context) { s.send(c, 200, "text/css; charset=utf-8", docsCSS) })
}

// docsDocument is what the page shows of the document. Schemas are shown as
// they are written.
type docsDocument struct {
	Info struct {
		Title, Version, Summary, Description string
	}
	Tags       []struct{ Name, Description string }
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Parameters    map[string]docsParameter
		RequestBodies map[string]docsBody
		Responses     map[string]docsResponse
		Schemas       map[string]json.RawMessage
	}
}

type docsOperation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []docsParameter
	RequestBody                       *docsBody
	Responses                         map[string]docsResponse

	Method, Path string
}

type docsParameter struct {
	Ref                   string `json:"$ref"`
	Name, In, Description string
	Required              bool
	Schema                json.RawMessage
}

type docsBody struct {
	Ref     string `json:"$ref"`
	Content map[string]struct{ Schema json.RawMessage }
}

type docsResponse struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]struct{ Schema json.RawMessage }
}

type docsGroup struct {
	Name, Description string
	Operations        []docsOperation
}

// docsPage shows the document to people, without any script.
func docsPage(document []byte) ([]byte, error) {
	var d docsDocument
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, fmt.Errorf("web: the OpenAPI document: %w", err)
	}
	groups := make([]docsGroup, len(d.Tags))
	for i, t := range d.Tags {
		groups[i] = docsGroup{Name: t.Name, Description: t.Description}
	}
	for path, item := range d.Paths {
		var shared []docsParameter
		if raw, ok := item["parameters"]; ok {
			if err := json.Unmarshal(raw, &shared); err != nil {
				return nil, fmt.Errorf("web: the OpenAPI document: %s: %w", path, err)
			}
		}
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var o docsOperation
			if err := json.Unmarshal(raw, &o); err != nil {
				return nil, fmt.Errorf("web: the OpenAPI document: %s %s: %w", method, path, err)
			}
			o.Method, o.Path = strings.ToUpper(method), path
			d.resolve(&o, shared)
			for i := range groups {
				if slices.Contains(o.Tags, groups[i].Name) {
					groups[i].Operations = append(groups[i].Operations, o)
				}
			}
		}
	}
	for _, g := range groups {
		slices.SortFunc(g.Operations, func(a, b docsOperation) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	}
	page, err := template.New("docs").Funcs(template.FuncMap{"schema": indented, "text": marked}).Parse(docsHTML)
	if err != nil {
		return nil, fmt.Errorf("web: docs.html: %w", err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, struct {
		docsDocument
		Groups []docsGroup
	}{d, groups}); err != nil {
		return nil, fmt.Errorf("web: docs.html: %w", err)
	}
	return out.Bytes(), nil
}

// resolve replaces references to components by what they name.
func (d docsDocument) resolve(o *docsOperation, shared []docsParameter) {
	o.Parameters = append(slices.Clone(shared), o.Parameters...)
	for i, p := range o.Parameters {
		if p.Ref != "" {
			o.Parameters[i] = d.Components.Parameters[lastOf(p.Ref)]
		}
	}
	if b := o.RequestBody; b != nil && b.Ref != "" {
		body := d.Components.RequestBodies[lastOf(b.Ref)]
		o.RequestBody = &body
	}
	for status, r := range o.Responses {
		if r.Ref != "" {
			o.Responses[status] = d.Components.Responses[lastOf(r.Ref)]
		}
	}
}

// lastOf is the component's name in a reference to it.
func lastOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// marked is a description with its code marked as such.
func marked(text string) template.HTML {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		out.WriteString(part)
	}
	return template.HTML(out.String()) // escaped above
}

// indented is a schema for reading; "" for one that allows everything. A
// reference alone is its component's name.
func indented(raw json.RawMessage) string {
	var ref struct {
		Ref string `json:"$ref"`
	}
	if json.Unmarshal(raw, &ref) == nil && ref.Ref != "" {
		return lastOf(ref.Ref)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil || out.String() == "{}" {
		return ""
	}
	return out.String()
}
