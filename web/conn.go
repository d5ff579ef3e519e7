package web

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
)

// refusals gives net/http's own refusals (a malformed request, headers beyond
// all bounds), which come before any handler, the shape of the others.
type refusals struct{ net.Listener }

func (l refusals) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return refusingConn{c}, nil
}

type refusingConn struct{ net.Conn }

// plain is how net/http begins a refusal after its status line; it writes one
// whole and at once. No answer of a handler has these headers alone.
const plain = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

func (c refusingConn) Write(b []byte) (int, error) {
	const longest = 512
	status, message, ok := bytes.Cut(b, []byte(plain))
	if !ok || len(b) > longest || !bytes.HasPrefix(status, []byte("HTTP/1.1 4")) || bytes.Contains(status, []byte("\n")) {
		return c.Conn.Write(b)
	}
	code := "bad_request"
	if bytes.HasPrefix(status, []byte("HTTP/1.1 431")) {
		code = "headers_too_large"
	}
	id := rand.Text()
	body, err := json.Marshal(errorBody{errorObject{code, string(message), id}})
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(c.Conn, "%s\r\nContent-Type: application/json; charset=utf-8\r\nX-Request-Id: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n", status, id, len(body)+1, body); err != nil {
		return 0, err
	}
	return len(b), nil
}
