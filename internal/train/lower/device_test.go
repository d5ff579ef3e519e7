package lower

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// onDevices runs a test on every device of this build.
func onDevices(t *testing.T, test func(t *testing.T, dev device.Trainer)) {
	for name, open := range map[string]func() (device.Device, error){
		"ref": func() (device.Device, error) { return ref.Open(2), nil },
		"cpu": func() (device.Device, error) { return cpu.Open(cpu.Options{Threads: 2}) },
	} {
		t.Run(name, func(t *testing.T) {
			dev, err := open()
			if errors.Is(err, device.ErrUnsupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			test(t, dev.(device.Trainer))
		})
	}
}

// linear makes Σ weights·y of the network's output "y" the cost.
func linear(t *testing.T, net *Net, weights []float32) *gorgonia.Node {
	t.Helper()
	y, err := net.Output("y")
	if err != nil {
		t.Fatal(err)
	}
	cost, err := net.Host(Host{
		Name: "cost",
		Do: func(out []float32, in [][]float32) error {
			out[0] = float32(dot(in[0], weights))
			return nil
		},
		Grad: func(int) Host {
			return Host{Name: "dy", Shape: shapeOf(y), Do: func(out []float32, in [][]float32) error {
				for i, w := range weights {
					out[i] = w * in[1][0]
				}
				return nil
			}}
		},
	}, y)
	if err != nil {
		t.Fatal(err)
	}
	return cost
}

func dot(x, y []float32) float64 {
	var sum float64
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return sum
}

// leaveInputs is a Given for networks without a seam.
func leaveInputs(*Net, string) (*gorgonia.Node, error) { return nil, nil }

// arraysOf makes the arrays of what a net learns.
func arraysOf(t *testing.T, dev device.Trainer, net *Net, params map[string]*nd.Tensor[float32]) map[string]device.Array {
	t.Helper()
	arrays := map[string]device.Array{}
	for _, v := range net.Trainable() {
		for _, name := range []string{v.Name(), GradOf(v.Name())} {
			a, err := dev.NewArray(shapeOf(v))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			arrays[name] = a
		}
		copy(arrays[v.Name()].Data(), params[v.Name()].Data)
	}
	return arrays
}

// bottlenecks are two residual blocks of a ResNet-50, the second with stride 2.
func bottlenecks(b *nn.Builder) {
	x := b.Input("x", 1, 32, 12, 14)
	block := func(name string, x nn.Value, width, stride int) nn.Value {
		var y nn.Value
		b.Scope(name, func() {
			y = b.ReLU(b.Norm("bn1", b.Conv("conv1", x, width, 1, 1, 0), 1e-5))
			y = b.ReLU(b.Norm("bn2", b.Conv("conv2", y, width, 3, stride, 1), 1e-5))
			y = b.Norm("bn3", b.Conv("conv3", y, 4*width, 1, 1, 0), 1e-5)
			y = b.ReLU(b.Add(y, b.Norm("downsample.1", b.Conv("downsample.0", x, 4*width, 1, stride, 0), 1e-5)))
		})
		return y
	}
	b.Output("y", block("1", block("0", x, 16, 1), 32, 2))
}

func normal(r *rand.Rand, shape nd.Shape, deviation float64) *nd.Tensor[float32] {
	a := nd.New[float32](shape...)
	for i := range a.Data {
		a.Data[i] = float32(deviation * r.NormFloat64())
	}
	return a
}

// blockParams are weights that keep the size of what flows, and norms near
// the identity.
func blockParams(g *nn.Graph, r *rand.Rand) device.MapParams {
	params := device.MapParams{}
	for _, p := range g.Params() {
		a := normal(r, p.Shape, 0.1)
		switch {
		case len(p.Shape) == 4:
			a = normal(r, p.Shape, math.Sqrt(2/float64(p.Shape[1:].Len())))
		case strings.HasSuffix(p.Key, ".weight"), strings.HasSuffix(p.Key, "_var"):
			for i, v := range a.Data {
				a.Data[i] = float32(math.Exp(float64(v)))
			}
		}
		params[p.Key] = a
	}
	return params
}

// What ties training to inference: the numerical gradient of what the device
// compiles for inference, fused and packed, is gorgonia's symbolic one, which
// its own machine computes operation by operation on the oracle; and the step
// that the device compiles has it, too.
func TestInferenceAndGorgoniaAgree(t *testing.T) {
	g, err := nn.Build(bottlenecks)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	params := blockParams(g, r)
	x := normal(r, g.Nodes[g.Inputs[0]].Shape, 1)
	weights := normal(r, g.Nodes[g.Outputs[0].Value].Shape, 1).Data
	isWeight := func(key string) bool { return len(params[key].Shape) == 4 }

	net, err := New(g, isWeight, leaveInputs)
	if err != nil {
		t.Fatal(err)
	}
	cost := linear(t, net, weights)
	grads, err := gorgonia.Grad(cost, net.Trainable()...)
	if err != nil {
		t.Fatal(err)
	}
	for v, l := range net.leaves {
		data := x
		if l.param {
			data = params[l.name]
		}
		if err := gorgonia.Let(v, tensor.New(tensor.WithShape(data.Shape...), tensor.WithBacking(slices.Clone(data.Data)))); err != nil {
			t.Fatal(err)
		}
	}
	var value gorgonia.Value
	gorgonia.Read(cost, &value)
	read := make([]gorgonia.Value, len(grads))
	for i, v := range grads {
		gorgonia.Read(v, &read[i])
	}
	machine := gorgonia.NewTapeMachine(net.Graph)
	defer machine.Close()
	if err := machine.RunAll(); err != nil {
		t.Fatal(err)
	}
	symbolic := map[string][]float32{}
	for i, v := range net.Trainable() {
		symbolic[v.Name()] = slices.Clone(read[i].Data().([]float32))
	}

	onDevices(t, func(t *testing.T, dev device.Trainer) {
		// f is the cost as inference computes it.
		f := func(params device.MapParams) float64 {
			p, err := dev.Compile(g, params, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			copy(p.Input(0).Data(), x.Data)
			if err := p.Run(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return dot(p.Output(0).Data(), weights)
		}
		if got, want := f(params), float64(value.Data().(float32)); math.Abs(got-want) > 1e-4*math.Abs(want)+1e-3 {
			t.Errorf("the cost is %v, gorgonia's %v", got, want)
		}
		for key, grad := range symbolic {
			norm := math.Sqrt(dot(grad, grad))
			for name, direction := range map[string][]float32{"its own": grad, "a random": normal(r, params[key].Shape, norm/math.Sqrt(float64(len(grad)))).Data} {
				// A step of 1/5000 of the weights' size: float32 leaves three or
				// four digits of the difference, ReLUs that turn about as many.
				h := 2e-4 * math.Sqrt(dot(params[key].Data, params[key].Data)) / norm
				moved := func(by float64) device.MapParams {
					p := device.MapParams{}
					for k, v := range params {
						p[k] = v
					}
					p[key] = nd.New[float32](params[key].Shape...)
					for i, v := range params[key].Data {
						p[key].Data[i] = v + float32(by)*direction[i]
					}
					return p
				}
				numerical := (f(moved(h)) - f(moved(-h))) / (2 * h)
				if want := dot(grad, direction); math.Abs(numerical-want) > 0.01*norm*norm {
					t.Errorf("%s in %s direction: the derivative is %.5g, gorgonia's %.5g; the gradient's square is %.5g", key, name, numerical, want, norm*norm)
				}
			}
		}

		again, err := New(g, isWeight, leaveInputs)
		if err != nil {
			t.Fatal(err)
		}
		arrays := arraysOf(t, dev, again, params)
		ours, err := again.Compile(dev, params, arrays, linear(t, again, weights))
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		copy(ours.Given("x"), x.Data)
		for range 2 { // gradients accumulate
			if err := ours.RunAll(); err != nil {
				t.Fatal(err)
			}
		}
		for key, want := range symbolic {
			for i := range want {
				want[i] *= 2
			}
			near(t, key, arrays[GradOf(key)].Data(), want, 1e-5)
			for i := range want {
				want[i] /= 2
			}
		}
	})
}

// near compares relative to the largest element.
func near(t *testing.T, name string, got, want []float32, tolerance float64) {
	t.Helper()
	var worst, largest float64
	for i, v := range want {
		worst, largest = max(worst, math.Abs(float64(got[i]-v))), max(largest, math.Abs(float64(v)))
	}
	if len(got) != len(want) || !(worst <= tolerance*largest) {
		t.Errorf("%s: off by %.2g of the largest element, %.3g", name, worst/largest, largest)
	}
}

// The recorded gradients of torchvision's operations and blocks, through
// gorgonia, on every device. All were made with dy = sin(0, 1, 2 …).
func TestTorchvisionGradients(t *testing.T) {
	cases := fixture.Cases(t, fixture.Dir(t, "torchvision"))
	onDevices(t, func(t *testing.T, dev device.Trainer) {
		ran := 0
		for _, c := range cases {
			if len(c.Arrays("grad")) == 0 {
				continue
			}
			ran++
			t.Run(c.Name, func(t *testing.T) { recorded(t, dev, c) })
		}
		if ran == 0 {
			t.Error("no case has gradients")
		}
	})
}

// recorded runs one case: the arrays grad_x, grad_w, grad_b, grad_in and
// grad.KEY are the gradients of x, w, b, feat and the block's KEY.
func recorded(t *testing.T, dev device.Trainer, c fixture.Case) {
	params := device.MapParams{}
	wanted := map[string]string{} // recorded gradient by parameter
	given := func(key, array, gradient string) nd.Shape {
		params[key] = c.Floats(t, array)
		if c.Shapes[gradient] != nil {
			wanted[key] = gradient
		}
		return params[key].Shape
	}
	var m struct {
		Stride, Pad int
		Aligned     bool    `json:"aligned"`
		Sampling    int     `json:"sampling_ratio"`
		Size        [2]int  `json:"output_size"`
		Scale       float64 `json:"spatial_scale"`
	}
	c.Decode(t, &m)
	pyramid := nn.Pyramid{Scales: []float64{m.Scale}}
	var rois *nd.Tensor[float32]
	tolerance := 2e-5 // sums in another order, or samples' places rounded
	g, err := nn.Build(func(b *nn.Builder) {
		var y nn.Value
		switch c.Op {
		case "conv2d":
			x, w := b.Param("x", given("x", "x", "grad_x")...), given("conv.weight", "w", "grad_w")
			given("conv.bias", "b", "grad_b")
			y = b.ConvBias("conv", x, w[0], w[2], m.Stride, m.Pad)
		case "roi_align", "roi_pool":
			x := []nn.Value{b.Param("feat", given("feat", "feat", "grad_in")...)}
			rois = c.Floats(t, "rois")
			in := b.Input("rois", rois.Shape...)
			if c.Op == "roi_pool" {
				y = b.RoIPool(nn.RoIPool{Pyramid: pyramid, H: m.Size[0], W: m.Size[1]}, x, in)
			} else {
				y = b.RoIAlign(nn.RoIAlign{Pyramid: pyramid, H: m.Size[0], W: m.Size[1], Sampling: m.Sampling, Aligned: m.Aligned}, x, in)
			}
		case "torchvision": // a block of ResNet
			for _, name := range c.Arrays("sd.") {
				key := strings.TrimPrefix(name, "sd.")
				given(key, name, "grad."+key)
			}
			y = block(b, b.Param("x", given("x", "x", "grad_x")...), params, m.Stride)
		default:
			t.Fatalf("nothing runs the gradients of %q", c.Op)
		}
		b.Output("y", y)
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(c.Arrays("grad")); len(wanted) != want {
		t.Fatalf("%d of %d recorded gradients are looked at", len(wanted), want)
	}
	net, err := New(g, func(key string) bool { return wanted[key] != "" }, leaveInputs)
	if err != nil {
		t.Fatal(err)
	}
	y, err := net.Output("y")
	if err != nil {
		t.Fatal(err)
	}
	dy := make([]float32, shapeOf(y).Len())
	for i := range dy {
		dy[i] = float32(math.Sin(float64(i)))
	}
	arrays := arraysOf(t, dev, net, params)
	machine, err := net.Compile(dev, params, arrays, linear(t, net, dy))
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	if rois != nil {
		copy(machine.Given("rois"), rois.Data)
	}
	if err := machine.RunAll(); err != nil {
		t.Fatal(err)
	}
	near(t, "out", machine.Value(y), c.Floats(t, "out").Data, tolerance)
	for key, gradient := range wanted {
		near(t, gradient, arrays[GradOf(key)].Data(), c.Floats(t, gradient).Data, tolerance)
	}
}

// block builds a residual block from what its state says: a basic one has two
// convolutions, a bottleneck three.
func block(b *nn.Builder, x nn.Value, params device.MapParams, stride int) nn.Value {
	layer := func(conv, norm string, y nn.Value, stride int) nn.Value {
		w := params[conv+".weight"].Shape
		return b.Norm(norm, b.Conv(conv, y, w[0], w[2], stride, w[2]/2), 1e-5)
	}
	strides := []int{stride, 1}
	if params["conv3.weight"] != nil {
		strides = []int{1, stride, 1}
	}
	y := x
	for i, s := range strides {
		y = layer(fmt.Sprint("conv", i+1), fmt.Sprint("bn", i+1), y, s)
		if i < len(strides)-1 {
			y = b.ReLU(y)
		}
	}
	if params["downsample.0.weight"] != nil {
		x = layer("downsample.0", "downsample.1", x, stride)
	}
	return b.ReLU(b.Add(y, x))
}

// Lowering is the same every time: a resumed run must add up in the same order.
// What is frozen has no gradient, and nothing behind it has.
func TestLowering(t *testing.T) {
	g, err := nn.Build(bottlenecks)
	if err != nil {
		t.Fatal(err)
	}
	learned := func(key string) bool { return key == "0.conv3.weight" || key == "1.conv2.weight" }
	var first string
	for range 5 {
		net, err := New(g, learned, leaveInputs)
		if err != nil {
			t.Fatal(err)
		}
		cost := linear(t, net, nil)
		grads, err := gorgonia.Grad(cost, net.Trainable()...)
		if err != nil {
			t.Fatal(err)
		}
		r := newRaising(net)
		if err := r.collect(append(gorgonia.Nodes{cost}, grads...)); err != nil {
			t.Fatal(err)
		}
		step, err := r.graph(grads)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%+v", *step)
		if first == "" {
			first = text
		}
		if text != first {
			t.Fatal("the same network gives another step")
		}
		weights := map[string]int{}
		for _, n := range step.Nodes {
			weights[n.Op.String()]++
		}
		// Through the second block's three convolutions and its shortcut, to the
		// first block's last one and no further.
		if weights["conv_weight"] != 2 || weights["conv_input"] != 4 {
			t.Errorf("%d gradients of weights and %d of inputs, want 2 and 4", weights["conv_weight"], weights["conv_input"])
		}
	}
}

// What cannot be differentiated is an error, not a gradient of zeros.
func TestErrors(t *testing.T) {
	g, err := nn.Build(func(b *nn.Builder) {
		b.Output("y", b.Norm("bn", b.Conv("conv", b.Input("x", 1, 2, 3, 3), 2, 3, 1, 1), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(g, func(key string) bool { return key == "bn.weight" }, leaveInputs); err == nil || !strings.Contains(err.Error(), "bn") {
		t.Errorf("a norm that is learned: %v", err)
	}
	net, err := New(g, func(string) bool { return false }, leaveInputs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Compile(ref.Open(1).(device.Trainer), nil, nil, linear(t, net, nil)); err == nil {
		t.Error("a step that learns nothing is compiled")
	}
	if _, err := net.Output("z"); err == nil {
		t.Error("there is an output that the network has not")
	}
}
