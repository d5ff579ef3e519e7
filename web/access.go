package web

import (
	"container/list"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"
)

// keyCookie carries an API key where a browser sets no header: for events and
// pictures. The page sets it with SameSite=Strict.
const keyCookie = "resdet_key"

// access lets a request to the API in, or refuses it: its address may not ask
// too often, it must have a key if there are keys, and the key's holder may not
// ask too often either.
func (s *Server) access(c *gin.Context) {
	if !s.rates.allow("address " + subnet(c.ClientIP())) {
		s.fail(c, s.tooMany())
		return
	}
	if len(s.keys) > 0 {
		holder, ok := s.holder(c.Request)
		if !ok {
			c.Header("WWW-Authenticate", `Bearer realm="resdet"`)
			s.fail(c, failf(401, "no_key", "a valid API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"))
			return
		}
		if !s.rates.allow("key " + strconv.Itoa(holder)) {
			s.fail(c, s.tooMany())
			return
		}
	}
	c.Next()
}

func (s *Server) tooMany() *failure {
	return failf(429, "too_many_requests", "more than %g requests a second", s.cfg.Rate).after(time.Duration(float64(time.Second) / s.cfg.Rate))
}

// holder is the number of the key that a request carries. Whatever it carries,
// it is compared with every key in the same time.
func (s *Server) holder(r *http.Request) (int, bool) {
	given := r.Header.Get("X-API-Key")
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && given == "" {
		given = token
	}
	if cookie, err := r.Cookie(keyCookie); err == nil && given == "" {
		given = cookie.Value
	}
	if given == "" {
		given = keyInProtocol(r)
	}
	sum := sha256.Sum256([]byte(given))
	holder, found := 0, 0
	for i := range s.keys {
		equal := subtle.ConstantTimeCompare(sum[:], s.keys[i][:])
		holder = subtle.ConstantTimeSelect(equal, i, holder)
		found |= equal
	}
	return holder, found == 1
}

// hashed keys have one length, so that comparing them tells nothing of theirs.
func hashed(keys []string) [][sha256.Size]byte {
	sums := make([][sha256.Size]byte, len(keys))
	for i, k := range keys {
		sums[i] = sha256.Sum256([]byte(k))
	}
	return sums
}

// subnet is what counts as one address: of IPv6 the network of 64 bits that
// one customer has.
func subnet(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Is4() || addr.Is4In6() {
		return ip
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return ip
	}
	return p.String()
}

// maxRates is how many addresses and keys are remembered: who was not heard of
// longest is forgotten, which only gives it a new burst.
const maxRates = 1 << 14

// rates limits how often each name may ask.
type rates struct {
	perSecond rate.Limit // 0: no limit
	burst     int

	mu     sync.Mutex
	byName map[string]*list.Element
	recent *list.List // of *rated, the last heard of first
}

type rated struct {
	name string
	rate.Limiter
}

func newRates(perSecond float64, burst int) *rates {
	return &rates{perSecond: rate.Limit(perSecond), burst: burst, byName: map[string]*list.Element{}, recent: list.New()}
}

func (r *rates) allow(name string) bool {
	if r.perSecond == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.byName[name]
	if ok {
		r.recent.MoveToFront(e)
	} else {
		if r.recent.Len() == maxRates {
			oldest := r.recent.Remove(r.recent.Back()).(*rated)
			delete(r.byName, oldest.name)
		}
		e = r.recent.PushFront(&rated{name, *rate.NewLimiter(r.perSecond, r.burst)})
		r.byName[name] = e
	}
	return e.Value.(*rated).Allow()
}

// origin lets pages of the hosts in the list use the API, and keeps pages of
// other hosts from making their visitors' browsers change anything here.
func (s *Server) origin(c *gin.Context) {
	r, h := c.Request, c.Writer.Header()
	from := r.Header.Get("Origin")
	listed := from != "" && (slices.Contains(s.cfg.Origins, from) || slices.Contains(s.cfg.Origins, "*"))
	if len(s.cfg.Origins) > 0 {
		h.Add("Vary", "Origin")
	}
	if listed {
		h.Set("Access-Control-Allow-Origin", from)
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, Location")
	}
	switch {
	case r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
		if !listed {
			s.fail(c, failf(403, "wrong_origin", "pages of %s may not use this server", clip(from)))
			return
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, X-API-Key, Content-Type, X-Request-Id, "+deadlineHeader)
		h.Set("Access-Control-Max-Age", "600")
		c.AbortWithStatus(http.StatusNoContent)
		return
	case !listed && s.sameSite.Check(r) != nil:
		s.fail(c, failf(403, "wrong_origin", "pages of other hosts may not send this"))
		return
	}
	c.Next()
}
