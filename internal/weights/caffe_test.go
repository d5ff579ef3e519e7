package weights

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
)

// sub appends a message as a field.
func sub(b []byte, num protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), message)
}

func intField(b []byte, num protowire.Number, v int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
}

// loose appends numbers with a tag each, as protobuf's first form of repeated
// fields has them.
func loose(b []byte, vs ...float32) []byte {
	for _, v := range vs {
		b = protowire.AppendFixed32(protowire.AppendTag(b, blobData, protowire.Fixed32Type), math.Float32bits(v))
	}
	return b
}

func doubles(vs ...float64) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

func blobOf(shape []int, data []byte) []byte {
	var dims []byte
	for _, d := range shape {
		dims = protowire.AppendVarint(dims, uint64(d))
	}
	return sub(sub(nil, blobShape, sub(nil, shapeDim, dims)), blobData, data)
}

func newLayer(name string, blobs ...[]byte) []byte {
	b := sub(sub(nil, layerName, []byte(name)), 2, []byte("Convolution"))
	for _, x := range blobs {
		b = sub(b, layerBlobs, x)
	}
	return b
}

func layerV1(name string, blobs ...[]byte) []byte {
	b := intField(sub(sub(nil, 2, []byte("data")), layerNameV1, []byte(name)), 5, 4)
	for _, x := range blobs {
		b = sub(b, layerBlobsV1, x)
	}
	return b
}

func net(layers ...[]byte) []byte {
	b := sub(nil, netName, []byte("net"))
	for _, l := range layers {
		b = sub(b, netLayer, l)
	}
	return b
}

// TestBlobs reads the forms that a blob can have.
func TestBlobs(t *testing.T) {
	legacy := func(n, c, h, w int) []byte {
		return intField(intField(intField(intField(nil, 1, n), 2, c), 3, h), 4, w)
	}
	six := floats(0, 1, 2, 3, 4, 5)
	looseDims := intField(intField(nil, shapeDim, 2), shapeDim, 3)
	inPieces := sub(loose(sub(sub(nil, blobShape, looseDims), blobData, floats(0, 1)), 2, 3), blobData, floats(4, 5))
	inPieces = sub(inPieces, 6, floats(9, 9, 9, 9, 9, 9)) // the gradient, which is left out
	for name, tt := range map[string]struct {
		blob  []byte
		shape []int
	}{
		"packed":          {blobOf([]int{2, 3}, six), []int{2, 3}},
		"loose":           {loose(sub(nil, blobShape, sub(nil, shapeDim, []byte{6})), 0, 1, 2, 3, 4, 5), []int{6}},
		"in pieces":       {inPieces, []int{2, 3}},
		"doubles":         {sub(sub(nil, blobShape, looseDims), blobDoubleData, doubles(0, 1, 2, 3, 4, 5)), []int{2, 3}},
		"legacy filter":   {sub(legacy(3, 1, 2, 1), blobData, six), []int{3, 1, 2, 1}},
		"legacy matrix":   {sub(legacy(1, 1, 3, 2), blobData, six), []int{3, 2}},
		"legacy bias":     {sub(legacy(1, 1, 1, 6), blobData, six), []int{6}},
		"shape comes 2nd": {sub(sub(nil, blobData, six), blobShape, looseDims), []int{2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			for form, file := range map[string][]byte{
				"layer": net(newLayer("relu1"), newLayer("rpn_conv/3x3", tt.blob)),
				"V1":    sub(sub(nil, netLayersV1, layerV1("relu1")), netLayersV1, layerV1("rpn_conv/3x3", tt.blob)),
			} {
				c, err := OpenReader("net", bytes.NewReader(file), int64(len(file)))
				if err != nil {
					t.Fatal(form, err)
				}
				got, err := c.Read("rpn_conv/3x3.0")
				if err != nil {
					t.Fatal(form, err)
				}
				if len(c.Tensors) != 1 || !c.Tensors[0].Shape.Equal(tt.shape) || !cmp.Equal(got, []float32{0, 1, 2, 3, 4, 5}) {
					t.Errorf("%s: %d tensors, shape %v, values %v", form, len(c.Tensors), c.Tensors[0].Shape, got)
				}
			}
		})
	}
}

// hostileNets lie, or ask for what they must not get.
func hostileNets() map[string][]byte {
	six := floats(0, 1, 2, 3, 4, 5)
	good := net(newLayer("conv1", blobOf([]int{6}, six)))
	deep := []byte{}
	for range 1000 {
		deep = sub(nil, netLayer, deep)
	}
	return map[string][]byte{
		"net: cut":             good[:len(good)-3],
		"net: shape too large": net(newLayer("conv1", blobOf([]int{7}, six))),
		"net: shape too small": net(newLayer("conv1", blobOf([]int{5}, six))),
		"net: huge shape":      net(newLayer("conv1", blobOf([]int{1 << 31, 1 << 31, 1 << 31}, six))),
		"net: product wraps":   net(newLayer("conv1", blobOf([]int{1 << 30, 1 << 30, 1 << 30}, six))),
		"net: negative extent": net(newLayer("conv1", sub(intField(nil, blobNum, -1), blobData, six))),
		"net: odd bytes":       net(newLayer("conv1", blobOf([]int{6}, six[:23]))),
		"net: same name":       net(newLayer("a", blobOf([]int{6}, six)), newLayer("a", blobOf([]int{6}, six))),
		"net: no name":         net(newLayer("", blobOf([]int{6}, six))),
		"net: no weights":      net(newLayer("conv1")),
		"net: group":           net(append(newLayer("conv1", blobOf([]int{6}, six)), 0x0b)),
		"net: text in numbers": net(newLayer("conv1", intField(blobOf([]int{6}, six), blobData, 3))),
		"net: deep":            append(net(), deep...),
		"net: many extents":    net(newLayer("conv1", blobOf(make([]int, 100_000), nil), blobOf([]int{1}, six))),
		"net: many layers":     net(bytesRepeat(newLayer("", []byte{}), 50_000)...),
	}
}

func bytesRepeat(b []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

func FuzzNet(f *testing.F) {
	for _, file := range hostileNets() {
		if len(file) < 4<<10 {
			f.Add(file)
		}
	}
	f.Add(net(newLayer("conv1", blobOf([]int{2, 3}, floats(0, 1, 2, 3, 4, 5)), loose(nil, 1))))
	f.Add(sub(nil, netLayersV1, layerV1("conv1", sub(intField(nil, blobWidth, 2), blobDoubleData, doubles(1, 2)))))
	f.Fuzz(func(t *testing.T, file []byte) {
		checkAny(t, file)
		checkAny(t, net(newLayer("conv1", file)))
	})
}
