package events

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// read parses a file by the framing's definition and the protobuf library's
// own reader, with the messages described here.
func read(t *testing.T, file []byte) []protoreflect.Message {
	t.Helper()
	event := describe(t)
	var out []protoreflect.Message
	for len(file) > 0 {
		if len(file) < 16 {
			t.Fatalf("%d bytes are left", len(file))
		}
		n := 0
		for i := 7; i >= 0; i-- {
			n = n<<8 | int(file[i])
		}
		checkCRC(t, file[:8], file[8:12])
		checkCRC(t, file[12:12+n], file[12+n:16+n])
		m := dynamicpb.NewMessage(event)
		if err := proto.Unmarshal(file[12:12+n], m); err != nil {
			t.Fatal(err)
		}
		if len(m.GetUnknown()) > 0 {
			t.Fatalf("unknown fields: %x", m.GetUnknown())
		}
		out = append(out, m)
		file = file[16+n:]
	}
	return out
}

// checkCRC computes CRC-32C bit by bit.
func checkCRC(t *testing.T, data, want []byte) {
	t.Helper()
	c := ^uint32(0)
	for _, b := range data {
		c ^= uint32(b)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0x82f63b78
			} else {
				c >>= 1
			}
		}
	}
	c = ^c
	c = ((c >> 15) | (c << 17)) + 0xa282ead8
	got := []byte{byte(c), byte(c >> 8), byte(c >> 16), byte(c >> 24)}
	if !bytes.Equal(got, want) {
		t.Fatalf("checksum %x, want %x", want, got)
	}
}

// describe returns the parts of event.proto and summary.proto that are used.
func describe(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	type kind = descriptorpb.FieldDescriptorProto_Type
	field := func(name string, number int32, k kind, of string, repeated bool) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &k}
		if of != "" {
			f.TypeName = &of
		}
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		f.Label = &label
		return f
	}
	const (
		double  = descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
		float   = descriptorpb.FieldDescriptorProto_TYPE_FLOAT
		integer = descriptorpb.FieldDescriptorProto_TYPE_INT64
		text    = descriptorpb.FieldDescriptorProto_TYPE_STRING
		message = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("event.proto"), Package: proto.String("t"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Value"), Field: []*descriptorpb.FieldDescriptorProto{field("tag", 1, text, "", false), field("simple_value", 2, float, "", false)}},
			{Name: proto.String("Summary"), Field: []*descriptorpb.FieldDescriptorProto{field("value", 1, message, ".t.Value", true)}},
			{Name: proto.String("Event"), Field: []*descriptorpb.FieldDescriptorProto{
				field("wall_time", 1, double, "", false), field("step", 2, integer, "", false),
				field("file_version", 3, text, "", false), field("summary", 5, message, ".t.Summary", false),
			}},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().ByName("Event")
}

func TestReadBack(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file)
	if err := w.Begin(1.5e9); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(1.5e9+1, 300, Scalar{"loss/total", 0.5}, Scalar{"mAP", math.Inf(1)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(1.5e9+2, 301); err != nil {
		t.Fatal(err)
	}
	type event struct {
		Wall    float64
		Step    int64
		Version string
		Tags    []string
		Values  []float64
	}
	var got []event
	for _, m := range read(t, file.Bytes()) {
		f := m.Descriptor().Fields()
		e := event{Wall: m.Get(f.ByName("wall_time")).Float(), Step: m.Get(f.ByName("step")).Int(), Version: m.Get(f.ByName("file_version")).String()}
		s := m.Get(f.ByName("summary")).Message()
		values := s.Get(s.Descriptor().Fields().ByName("value")).List()
		for i := range values.Len() {
			v := values.Get(i).Message()
			e.Tags = append(e.Tags, v.Get(v.Descriptor().Fields().ByName("tag")).String())
			e.Values = append(e.Values, v.Get(v.Descriptor().Fields().ByName("simple_value")).Float())
		}
		got = append(got, e)
	}
	want := []event{
		{Wall: 1.5e9, Version: "brain.Event:2"},
		{Wall: 1.5e9 + 1, Step: 300, Tags: []string{"loss/total", "mAP"}, Values: []float64{0.5, math.Inf(1)}},
		{Wall: 1.5e9 + 2, Step: 301},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestVersionRecord is the first record of a file that TensorFlow's own writer
// made at wall time 0.
func TestVersionRecord(t *testing.T) {
	var file bytes.Buffer
	if err := NewWriter(&file).Begin(0); err != nil {
		t.Fatal(err)
	}
	b := file.Bytes()
	if got := hex.EncodeToString(b[:12]); got != "1800000000000000a37f4b22" {
		t.Errorf("the header is %s", got)
	}
}
