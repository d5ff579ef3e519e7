package web

import (
	"context"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// tracing tells a collector what each request spent its time on: a span for
// the request, which continues the client's trace, and one for each stage.
type tracing struct {
	tracer trace.Tracer
	end    func(context.Context) error
}

// newTracing sends to the collector at address; to nobody if it is empty.
func newTracing(address string) (*tracing, error) {
	if address == "" {
		return &tracing{noop.NewTracerProvider().Tracer("resdet"), func(context.Context) error { return nil }}, nil
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(address+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("web: traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), // bounded: what the collector does not take is dropped
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "resdet"))),
	)
	return &tracing{provider.Tracer("resdet"), provider.Shutdown}, nil
}

// traced is the span of a request.
func (s *Server) traced(c *gin.Context) {
	route := c.FullPath()
	if route == "" {
		route = "other"
	}
	ctx := propagation.TraceContext{}.Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
	ctx, span := s.tracing.tracer.Start(ctx, c.Request.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", c.Request.Method), attribute.String("http.route", route), attribute.String("request_id", requestID(c))))
	defer span.End()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
	span.SetAttributes(attribute.Int("http.response.status_code", c.Writer.Status()))
	if code := c.GetString(codeKey); code != "" {
		span.SetAttributes(attribute.String("error.type", code))
	}
	if c.Writer.Status() >= 500 {
		span.SetStatus(codes.Error, "")
	}
}

// stage is a span of what has already been done.
func (t *tracing) stage(ctx context.Context, name string, start time.Time, took time.Duration, attributes ...attribute.KeyValue) (end time.Time) {
	end = start.Add(took)
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(end))
	return end
}

// stages are the spans of a detection that began to wait at start: the
// network's own, which tells durations, one after the other.
func (t *tracing) stages(ctx context.Context, model string, start time.Time, f found) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	at := t.stage(ctx, "queue", start, f.waited, attribute.String("model", model))
	for _, s := range []struct {
		name string
		took time.Duration
	}{
		{"compile", f.timing.Compile}, {"transform", f.timing.Transform}, {"stage1", f.timing.Stage1},
		{"proposals", f.timing.Proposals}, {"stage2", f.timing.Stage2}, {"post", f.timing.Post},
	} {
		if s.took > 0 {
			at = t.stage(ctx, s.name, at, s.took)
		}
	}
}
