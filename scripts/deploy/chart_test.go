package deploy

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir("chart")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render gives the chart's objects, decoded strictly: an unknown or misspelt
// field of any of them is an error.
func render(t *testing.T, overrides string) []runtime.Object {
	t.Helper()
	c := load(t)
	given, err := chartutil.ReadValues([]byte(overrides))
	if err != nil {
		t.Fatal(err)
	}
	values, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "demo", Namespace: "vision", Revision: 1, IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := (engine.Engine{Strict: true}).Render(c, values)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(files[name])))
		for {
			text, err := documents.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(text)) == 0 {
				continue
			}
			o, _, err := decoder.Decode(text, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

// kinds counts objects by kind.
func kinds(objects []runtime.Object) map[string]int {
	n := map[string]int{}
	for _, o := range objects {
		n[o.GetObjectKind().GroupVersionKind().Kind]++
	}
	return n
}

func find[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	for _, o := range objects {
		if found, ok := o.(T); ok {
			return found
		}
	}
	var none T
	t.Fatalf("no %T was rendered", none)
	return none
}

func TestChart(t *testing.T) {
	for _, c := range []struct {
		name, values string
		want         map[string]int
	}{
		{"defaults", "", map[string]int{"ConfigMap": 1, "Service": 2, "StatefulSet": 1}},
		{"everything", everything, map[string]int{"ConfigMap": 1, "Service": 2, "StatefulSet": 1,
			"HorizontalPodAutoscaler": 1, "PodDisruptionBudget": 1, "Ingress": 1, "NetworkPolicy": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := kinds(render(t, c.values)); !maps.Equal(got, c.want) {
				t.Errorf("rendered %v, want %v", got, c.want)
			}
		})
	}
}

const everything = `
config: {max_body: 48MiB, queue: 32, rate: 5}
keysSecret: resdet-keys
modelsClaim: models
imagePullSecrets: [{name: pull}]
persistence: {enabled: true, size: 20Gi, storageClass: fast}
autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 6, queueLength: "4"}
ingress: {enabled: true, className: nginx, host: detect.example.org, tlsSecret: tls, annotations: {a: b}}
networkPolicy: {enabled: true, from: [{namespaceSelector: {}}]}
podAnnotations: {team: vision}
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: cpu, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
`

// The pods are what the server needs: an ordinary user, probes on its health
// addresses, limits, time to drain, and a folder for its jobs.
func TestPod(t *testing.T) {
	pod := find[*appsv1.StatefulSet](t, render(t, everything)).Spec.Template.Spec
	c := pod.Containers[0]
	if pod.SecurityContext.RunAsNonRoot == nil || !*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser == 0 {
		t.Error("the pod may run as root")
	}
	if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.StartupProbe == nil {
		t.Errorf("probes %v %v %v", c.ReadinessProbe, c.LivenessProbe, c.StartupProbe)
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Limits.Cpu().IsZero() {
		t.Errorf("limits %v", c.Resources.Limits)
	}
	mounted := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounted[m.MountPath] = true
	}
	for _, path := range []string{"/var/lib/resdet", "/etc/resdet", "/etc/resdet-keys", "/models", "/tmp"} {
		if !mounted[path] {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
	if *pod.TerminationGracePeriodSeconds < 33 {
		t.Errorf("%d s are not enough to drain", *pod.TerminationGracePeriodSeconds)
	}
}

// The server takes the settings that the chart hands it.
func TestConfig(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server")
	}
	dir := t.TempDir()
	binary, config := filepath.Join(dir, "resdet"), filepath.Join(dir, "serve.yaml")
	build := exec.Command("go", "build", "-o", binary, "./cmd/resdet")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := find[*corev1.ConfigMap](t, render(t, everything)).Data["serve.yaml"]
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "serve", "--check-config", "--config", config).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

// The autoscaler goes by a metric that the server has.
func TestAutoscalerMetric(t *testing.T) {
	hpa := find[*autoscalingv2.HorizontalPodAutoscaler](t, render(t, everything))
	name := hpa.Spec.Metrics[0].Pods.Metric.Name
	if !slices.Contains(exposed(t), name) {
		t.Errorf("the autoscaler wants %q, which /metrics has not", name)
	}
	if hpa.Spec.ScaleTargetRef.Name != find[*appsv1.StatefulSet](t, render(t, everything)).Name {
		t.Error("the autoscaler scales something else")
	}
}
