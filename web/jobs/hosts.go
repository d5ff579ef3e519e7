package jobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Hosts are the places from which inputs may be fetched.
//
// An entry is a host's name, an address, or a network in CIDR notation. A name
// stands for the public addresses that it resolves to at the moment of the
// connection; addresses that are not public (loopback, private, link-local) must
// be listed themselves, so that nobody who answers for a name can lead the
// server to its own neighbours. What is connected to is the very address that
// was checked. Redirects are connections like any other.
type Hosts struct {
	names    []string
	networks []netip.Prefix
	resolve  func(ctx context.Context, host string) ([]netip.Addr, error)
}

// NewHosts reads a list of hosts. Nothing is allowed by an empty one.
func NewHosts(list []string) (*Hosts, error) {
	h := &Hosts{resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
	for _, entry := range list {
		if p, err := netip.ParsePrefix(entry); err == nil {
			h.networks = append(h.networks, p.Masked())
			continue
		}
		if a, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
			a = a.Unmap().WithZone("")
			h.networks = append(h.networks, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		name := canonicalHost(entry)
		if name == "" || strings.ContainsAny(name, "/:@ *?") {
			return nil, fmt.Errorf("jobs: allowed host %q is neither a host's name nor an address nor a network", entry)
		}
		h.names = append(h.names, name)
	}
	return h, nil
}

func canonicalHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(host), "."))
}

// listed reports whether an address stands in the list itself.
func (h *Hosts) listed(a netip.Addr) bool {
	return slices.ContainsFunc(h.networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// public reports whether an address is one of the open Internet.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}

// reserved are unicast networks that are not the Internet though the standard
// library counts them as global: "this network", carriers' own, protocol
// assignments, benchmarks, the future, and translations to IPv4.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

// allows reports whether host may be asked for at all: a name that is listed,
// or a listed address.
func (h *Hosts) allows(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return h.listed(a.Unmap().WithZone(""))
	}
	return slices.Contains(h.names, canonicalHost(host))
}

// parse checks the address of an input.
func (h *Hosts) parse(address string) (*url.URL, error) {
	if len(address) > 4096 {
		return nil, faultf(BadRequest, "the address has %d characters; 4096 are allowed", len(address))
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, faultf(BadRequest, "it is not an address like https://host/file or rtsp://host/path")
	case !slices.Contains([]string{"http", "https", "rtsp", "rtsps"}, u.Scheme):
		return nil, faultf(BadRequest, "addresses begin with http, https, rtsp or rtsps, not with %q", u.Scheme)
	case !h.allows(u.Hostname()):
		return nil, h.forbidden(u.Hostname())
	}
	return u, nil
}

func (h *Hosts) forbidden(host string) error {
	return faultf(Forbidden, "this server does not fetch from %q; its operator lists the hosts that it may (--allow-host)", host)
}

const dialTimeout = 10 * time.Second

// dial connects to host:port if that is allowed, for every connection that is
// made for a client.
func (h *Hosts) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, faultf(BadRequest, "%q is not HOST:PORT", address)
	}
	if !h.allows(host) {
		return nil, h.forbidden(host)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addresses, err := h.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addresses {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, faultf(Unreachable, "%s cannot be reached: %w", host, errors.Join(errs...))
}

// addresses returns those of a host that may be connected to.
func (h *Hosts) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil // it is listed
	}
	found, err := h.resolve(ctx, host)
	if err != nil {
		return nil, faultf(Unreachable, "%s is not known: %w", host, err)
	}
	var allowed []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); public(a) || h.listed(a.WithZone("")) {
			allowed = append(allowed, a)
		}
	}
	if len(allowed) == 0 {
		return nil, faultf(Forbidden, "%q leads to no public address, nor to one that is listed as one that this server may fetch from (--allow-host)", host)
	}
	return allowed, nil
}
