package cpu

// Limits are what this machine does at most, in 10⁹ a second: operations of
// matrix products (two for a multiply-add) and bytes of copies from memory to
// memory. 0 is unknown.
type Limits struct {
	F32       float64 `json:"f32_gflops,omitempty"`
	BF16      float64 `json:"bf16_gflops,omitempty"` // float32 sums; where the CPU has it
	Int8      float64 `json:"int8_gops,omitempty"`   // 32-bit sums
	Bandwidth float64 `json:"memory_gbytes,omitempty"`
}
