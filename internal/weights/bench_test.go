package weights

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// normal gives every parameter values like trained weights.
type normal struct{}

func (normal) Param(key string, shape nd.Shape) ([]float32, error) {
	random := rand.New(rand.NewPCG(uint64(len(key)), 0))
	out := make([]float32, shape.Len())
	for i := range out {
		out[i] = float32(random.NormFloat64()) * 0.02
	}
	return out, nil
}

// BenchmarkDecodeHalf reports bytes of float16 read, on one thread.
func BenchmarkDecodeHalf(b *testing.B) {
	values, _ := normal{}.Param("weights", nd.Shape{chunkBytes / 2})
	src := make([]byte, chunkBytes)
	for i, v := range values {
		h, _ := floatToHalf(v)
		src[2*i], src[2*i+1] = byte(h), byte(h>>8)
	}
	b.SetBytes(chunkBytes)
	for b.Loop() {
		decodeHalf(values, src)
	}
}

// BenchmarkLoad opens a model file of 200 MB and reads every parameter.
func BenchmarkLoad(b *testing.B) {
	for _, dtype := range []DType{F16, F32} {
		b.Run(dtype.String(), func(b *testing.B) {
			var specs []nn.ParamSpec
			const filter = 512 * 512 * 9
			for i := range 200_000_000 / (filter * int(dtype.Size())) {
				specs = append(specs, nn.ParamSpec{Key: fmt.Sprintf("layer%d.weight", i), Shape: nd.Shape{512, 512, 3, 3}})
			}
			path := filepath.Join(b.TempDir(), "model.safetensors")
			if err := Save(path, []byte("{}"), specs, normal{}, dtype); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(c.Size())
				for _, s := range specs {
					if _, err := c.Param(s.Key, s.Shape); err != nil {
						b.Fatal(err)
					}
				}
				c.Close()
			}
		})
	}
}
