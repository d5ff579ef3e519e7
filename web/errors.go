package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"resdet/internal/spell"
	"resdet/internal/transform"
	"resdet/web/jobs"
)

// failure is an error that a client is told of: its HTTP status, a code for
// programs and a message for people.
type failure struct {
	status  int
	code    string
	message string
	wait    time.Duration // Retry-After, if not 0
}

func (f *failure) Error() string { return f.message }

func failf(status int, code, format string, args ...any) *failure {
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// after says when the client may come again: in a second at the least.
func (f *failure) after(d time.Duration) *failure {
	f.wait = max(d, time.Second)
	return f
}

// errorBody is the one shape of errors.
type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
}

// asFailure says what a client is told of an error: the one table from errors
// to statuses. What is not in it is a fault of the server, whose text stays in
// the log.
func asFailure(err error) *failure {
	var f *failure
	var tooMuch *http.MaxBytesError
	var unread *readError
	var fault *jobs.Fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &fault):
		return jobFailure(fault)
	case errors.As(err, &tooMuch):
		return failf(413, "body_too_large", "the body has more than %d bytes", tooMuch.Limit)
	case errors.Is(err, transform.ErrFormat):
		return failf(415, "not_a_picture", "%s", detail(err))
	case errors.Is(err, transform.ErrTooLarge):
		return failf(413, "picture_too_large", "%s", detail(err))
	case errors.Is(err, transform.ErrDamaged):
		return failf(422, "damaged_picture", "%s", detail(err))
	case errors.As(err, &unread):
		return failf(400, "bad_body", "the body is malformed: %s", clip(unread.Error()))
	case errors.Is(err, errDeadline):
		return failf(504, "deadline_exceeded", "the deadline passed before the answer was there")
	case errors.Is(err, errStopping):
		return failf(503, "stopping", "the server is stopping").after(time.Second)
	case errors.Is(err, context.Canceled):
		return failf(statusClosed, "cancelled", "the client went away")
	}
	return failf(500, "internal", "the server failed; its log knows the request by its id")
}

// statusClosed is for the log: nobody reads the answer to a request whose
// client is gone (nginx's number for it).
const statusClosed = 499

var (
	errDeadline = errors.New("web: the deadline passed")
	errStopping = errors.New("web: the server is stopping")
)

// detail is an error's text without the package's name, which says nothing to
// a client.
func detail(err error) string { return strings.TrimPrefix(err.Error(), "transform: ") }

// fail answers a request with an error, and ends its handling.
func (s *Server) fail(c *gin.Context, err error) {
	f := asFailure(err)
	if f.status == 500 {
		s.cfg.Log.ErrorContext(c.Request.Context(), "request failed", "request_id", requestID(c), "error", err)
	}
	c.Set(codeKey, f.code)
	s.metrics.rejected.WithLabelValues(f.code).Inc()
	if f.wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(f.wait.Seconds()))))
	}
	c.Abort()
	s.answer(c, f.status, errorBody{errorObject{f.code, f.message, requestID(c)}})
}

// clip shortens what a client sent for a message about it.
func clip(text string) string {
	const most = 64
	if len(text) <= most {
		return strings.ToValidUTF8(text, "?")
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.ToValidUTF8(text[:cut], "?") + "…"
}

// oneOf ends a message about a name that is not known: the nearest one that
// is, or all of them.
func oneOf(name string, known []string) string {
	if near := spell.Nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ": it may be " + clipList(known)
}

func clipList(names []string) string {
	const most = 100
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " …"
	}
	return strings.Join(names, ", ")
}
