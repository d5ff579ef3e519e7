package deploy

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
)

// Every query of the dashboard parses, and the metrics in it are among those
// that the server exposes.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("compose/grafana/resdet.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	have := exposed(t)
	queries := 0
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			queries++
			// Grafana fills its variables in before Prometheus sees the query.
			expr, err := metricsql.Parse(strings.NewReplacer("$__rate_interval", "1m", "$model", ".*").Replace(q.Expr))
			if err != nil {
				t.Errorf("%s: %s: %v", p.Title, q.Expr, err)
				continue
			}
			metricsql.VisitAll(expr, func(e metricsql.Expr) {
				m, ok := e.(*metricsql.MetricExpr)
				if !ok {
					return
				}
				for _, filters := range m.LabelFilterss {
					for _, f := range filters {
						if f.Label == "__name__" && !slices.Contains(have, f.Value) {
							t.Errorf("%s: the server has no metric %q", p.Title, f.Value)
						}
					}
				}
			})
		}
	}
	if queries < 8 {
		t.Errorf("the dashboard has %d queries", queries)
	}
}
