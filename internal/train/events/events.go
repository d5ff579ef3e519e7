// Package events writes TensorBoard's event files, so that a run's curves can
// be looked at while it runs.
//
//	scalars ─ Event protobuf ▶ record: length, CRC of it, data, CRC of it ▶ events.out.tfevents.…
//
// Sources: tensorflow/core/util/event.proto, summary.proto, and
// tensorflow/core/lib/io/record_writer.cc for the framing.
package events

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Scalar is a value of a curve.
type Scalar struct {
	Tag   string // "loss/total"
	Value float64
}

// Writer appends events to a file. It is used by one goroutine at a time.
type Writer struct {
	w io.Writer
}

// NewWriter returns a writer to w, which is given every event in one piece. A
// new file begins with the version that TensorBoard looks for: see Begin.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Numbers of fields in event.proto and summary.proto.
const (
	eventWallTime = 1
	eventStep     = 2
	eventVersion  = 3
	eventSummary  = 5
	summaryValue  = 1
	valueTag      = 1
	valueSimple   = 2
)

// Begin writes the first event of a new file. wall is in seconds since 1970.
func (w *Writer) Begin(wall float64) error {
	e := appendDouble(nil, eventWallTime, wall)
	e = protowire.AppendTag(e, eventVersion, protowire.BytesType)
	return w.record(protowire.AppendString(e, "brain.Event:2"))
}

// Write writes the scalars of a step.
func (w *Writer) Write(wall float64, step int64, scalars ...Scalar) error {
	var summary []byte
	for _, s := range scalars {
		var v []byte
		v = protowire.AppendTag(v, valueTag, protowire.BytesType)
		v = protowire.AppendString(v, s.Tag)
		v = protowire.AppendTag(v, valueSimple, protowire.Fixed32Type)
		v = protowire.AppendFixed32(v, math.Float32bits(float32(s.Value)))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, v)
	}
	e := appendDouble(nil, eventWallTime, wall)
	e = protowire.AppendTag(e, eventStep, protowire.VarintType)
	e = protowire.AppendVarint(e, uint64(step))
	e = protowire.AppendTag(e, eventSummary, protowire.BytesType)
	return w.record(protowire.AppendBytes(e, summary))
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	b = protowire.AppendTag(b, field, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(v))
}

// record frames an event and writes it.
func (w *Writer) record(data []byte) error {
	le := binary.LittleEndian
	b := le.AppendUint64(make([]byte, 0, len(data)+16), uint64(len(data)))
	b = le.AppendUint32(b, masked(b))
	b = append(b, data...)
	b = le.AppendUint32(b, masked(data))
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum as records have it: CRCs of data that hold CRCs are
// weak, so it is turned and moved (LevelDB's log format).
func masked(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
