// Package web serves detectors over HTTP: a REST API, jobs, live pictures, and
// a page that shows what they see.
//
//	request ─ access ─ body ─ decode ─▶ queue of the model ─ turn ─▶ Detector ─▶ JSON, or the drawn JPEG
//	          keys     limits  bounded   bounded, 429         one network at a time
//	          rates    429
//
// A [Server] is made from a [Config], is given its [Model]s with
// [Server.SetModels], again whenever they change, and serves until its context
// ends. The package does not import the detector: a Model carries what it needs
// of one.
//
// Whatever a request costs is bounded before it is spent: connections, header
// and body bytes, the pixels of a picture before it is decoded, the bytes of all
// pictures that wait, the length of each model's queue. What does not fit is
// answered 429 with Retry-After.
//
// Every error has one shape: {"error":{"code":…,"message":…,"request_id":…}}.
package web
