package helm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const chartDir = "../../deploy/helm/mediaferry"

// longName is the longest name of a release that Helm takes.
const longName = "an-unusually-long.name-of-a-release-that-goes-on-ends"

// ScaledObject is what KEDA 2.21 takes, as far as the chart uses it; strict
// decoding refuses the rest.
type ScaledObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount *int32 `json:"minReplicaCount"`
		MaxReplicaCount *int32 `json:"maxReplicaCount"`
		PollingInterval *int32 `json:"pollingInterval"`
		CooldownPeriod  *int32 `json:"cooldownPeriod"`
		Fallback        struct {
			FailureThreshold int32  `json:"failureThreshold"`
			Replicas         int32  `json:"replicas"`
			Behavior         string `json:"behavior"`
		} `json:"fallback"`
		Advanced struct {
			HPA struct {
				Behavior *autoscaling.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type              string                       `json:"type"`
			MetricType        autoscaling.MetricTargetType `json:"metricType"`
			AuthenticationRef struct {
				Name string `json:"name"`
			} `json:"authenticationRef"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// TriggerAuthentication is KEDA's, in the same way.
type TriggerAuthentication struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		SecretTargetRef []struct {
			Parameter string `json:"parameter"`
			Name      string `json:"name"`
			Key       string `json:"key"`
		} `json:"secretTargetRef"`
	} `json:"spec"`
}

// object is what every kind has.
type object interface {
	GetName() string
	GetLabels() map[string]string
}

// release is what was rendered, decoded.
type release []object

// decode reads one object strictly, as its kind says.
func decode(text []byte) (object, error) {
	var of meta.TypeMeta
	if err := yaml.Unmarshal(text, &of); err != nil {
		return nil, fmt.Errorf("%w:\n%s", err, text)
	}
	var o object
	switch of.APIVersion + " " + of.Kind {
	case "v1 ConfigMap":
		o = &core.ConfigMap{}
	case "v1 Service":
		o = &core.Service{}
	case "v1 ServiceAccount":
		o = &core.ServiceAccount{}
	case "apps/v1 Deployment":
		o = &apps.Deployment{}
	case "batch/v1 Job":
		o = &batch.Job{}
	case "policy/v1 PodDisruptionBudget":
		o = &policy.PodDisruptionBudget{}
	case "networking.k8s.io/v1 NetworkPolicy":
		o = &networking.NetworkPolicy{}
	case "keda.sh/v1alpha1 ScaledObject":
		o = &ScaledObject{}
	case "keda.sh/v1alpha1 TriggerAuthentication":
		o = &TriggerAuthentication{}
	case "monitoring.coreos.com/v1 PodMonitor":
		o = &monitoring.PodMonitor{}
	case "monitoring.coreos.com/v1 PrometheusRule":
		o = &monitoring.PrometheusRule{}
	default:
		return nil, fmt.Errorf("%s of %s is none that the chart should have", of.Kind, of.APIVersion)
	}
	if err := yaml.UnmarshalStrict(text, o); err != nil {
		return nil, fmt.Errorf("%s: %w:\n%s", of.Kind, err, text)
	}
	return o, nil
}

// render renders the chart with the values, which its schema has checked.
func render(name string, values []byte) (release, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	given, err := chartutil.ReadValues(values)
	if err != nil {
		return nil, err
	}
	all, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: name, Namespace: "media", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return nil, err
	}
	var r release
	for file, text := range files {
		documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			var content map[string]any
			if err := yaml.Unmarshal(document, &content); err != nil {
				return nil, fmt.Errorf("%s: %w:\n%s", file, err, document)
			}
			if len(content) == 0 {
				continue
			}
			o, err := decode(document)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			r = append(r, o)
		}
	}
	return r, nil
}

// cases are the releases that all of this is tested with, by the file of values.
func cases(t *testing.T) map[string]release {
	t.Helper()
	all := map[string]release{}
	for values, name := range map[string]string{"least": "mf", "all": "mediaferry", "bare": longName} {
		text, err := os.ReadFile(filepath.Join("testdata", values+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := render(name, text)
		if err != nil {
			t.Fatalf("%s: %v", values, err)
		}
		all[values] = r
	}
	return all
}

// of returns the objects of one kind by their names, which are names.
func of[T object](t *testing.T, r release) map[string]T {
	t.Helper()
	found := map[string]T{}
	for _, o := range r {
		o, ok := o.(T)
		if !ok {
			continue
		}
		if problems := validation.IsDNS1123Label(o.GetName()); len(problems) > 0 {
			t.Errorf("name %q: %v", o.GetName(), problems)
		}
		if _, twice := found[o.GetName()]; twice {
			t.Errorf("two are called %s", o.GetName())
		}
		found[o.GetName()] = o
	}
	return found
}

// pods returns the templates of the release's pods, by the names of what makes them.
func pods(t *testing.T, r release) map[string]core.PodTemplateSpec {
	t.Helper()
	all := map[string]core.PodTemplateSpec{}
	for name, d := range of[*apps.Deployment](t, r) {
		all[name] = d.Spec.Template
		selector, err := meta.LabelSelectorAsSelector(d.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("%s does not select its own pods: %v", name, err)
		}
		// A pod's name is the deployment's, a hash and five letters.
		if len(name)+17 > 63 {
			t.Errorf("names of pods of %s do not fit a host's name", name)
		}
	}
	for name, j := range of[*batch.Job](t, r) {
		all[name] = j.Spec.Template
	}
	return all
}

func TestPods(t *testing.T) {
	t.Parallel()
	for values, r := range cases(t) {
		maps := of[*core.ConfigMap](t, r)
		accounts := of[*core.ServiceAccount](t, r)
		for name, pod := range pods(t, r) {
			t.Run(values+" "+name, func(t *testing.T) {
				t.Parallel()
				s := pod.Spec.SecurityContext
				if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
					t.Errorf("the pod's security is %+v", s)
				}
				if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
					t.Error("it has a token of the cluster")
				}
				if account := pod.Spec.ServiceAccountName; account != "" && accounts[account] == nil {
					t.Errorf("there is no service account %s", account)
				}
				for key, value := range pod.Labels {
					if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
						t.Errorf("label %s: %v", key, problems)
					}
				}
				if len(pod.Spec.Containers) != 1 {
					t.Fatalf("%d containers", len(pod.Spec.Containers))
				}
				c := pod.Spec.Containers[0]
				if s := c.SecurityContext; s == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
					t.Errorf("the container's security is %+v", s)
				}
				if c.Resources.Requests.Memory().IsZero() && c.Resources.Limits.Memory().IsZero() {
					t.Error("nothing is said of memory")
				}
				checkMounts(t, pod.Spec, maps)
				checkProbes(t, c)
				for _, e := range c.Env {
					if e.Value != "" && strings.HasPrefix(e.Name, "MEDIAFERRY_") {
						t.Errorf("%s stands in the object itself", e.Name)
					}
				}
			})
		}
	}
}

// checkMounts sees that what is mounted is there, and what is there is ours.
func checkMounts(t *testing.T, pod core.PodSpec, maps map[string]*core.ConfigMap) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.Name == "settings" && maps[v.ConfigMap.Name] == nil {
			t.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("there is no volume %s", m.Name)
		}
		delete(volumes, m.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("volumes %v are not mounted", volumes)
	}
}

func checkProbes(t *testing.T, c core.Container) {
	t.Helper()
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	want := map[string]*core.Probe{"/startupz": c.StartupProbe, "/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe}
	if c.Name == "migrate" {
		return
	}
	for path, probe := range want {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || !ports[probe.HTTPGet.Port.StrVal] {
			t.Errorf("the probe of %s is %+v", path, probe)
		}
	}
}

// A pod that is stopped has the time that its process takes by its settings.
func TestStopsAreGivenTheirTime(t *testing.T) {
	t.Parallel()
	deployments := of[*apps.Deployment](t, cases(t)["all"])
	for name, want := range map[string]int64{
		"mediaferry-dispatcher":     45 + 8 + 10,
		"mediaferry-worker-default": 20 + 10,
		"mediaferry-worker-far":     60 + 10,
	} {
		pod := deployments[name].Spec.Template.Spec
		if got := *pod.TerminationGracePeriodSeconds; got != want {
			t.Errorf("%s: %d s, want %d", name, got, want)
		}
	}
	drain := deployments["mediaferry-dispatcher"].Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Sleep
	if drain == nil || drain.Seconds != 8 {
		t.Errorf("a dispatcher drains by %+v", drain)
	}
}

// Whatever selects pods selects those that it is meant for, and no others.
func TestSelectors(t *testing.T) {
	t.Parallel()
	for values, r := range cases(t) {
		all := pods(t, r)
		selected := func(what string, selector *meta.LabelSelector, want func(component, name string) bool) {
			s, err := meta.LabelSelectorAsSelector(selector)
			if err != nil {
				t.Fatal(err)
			}
			for name, pod := range all {
				component := pod.Labels["app.kubernetes.io/component"]
				if got := s.Matches(labels.Set(pod.Labels)); got != want(component, name) {
					t.Errorf("%s: %s selects %s: %v", values, what, name, got)
				}
			}
		}
		budgets := of[*policy.PodDisruptionBudget](t, r)
		for name, b := range budgets {
			selected("budget "+name, b.Spec.Selector, func(_, pod string) bool { return pod == name })
		}
		if deployments := of[*apps.Deployment](t, r); len(budgets) != len(deployments) {
			t.Errorf("%s: %d budgets for %d deployments", values, len(budgets), len(deployments))
		}
		for name, d := range of[*apps.Deployment](t, r) {
			selected("deployment "+name, d.Spec.Selector, func(_, pod string) bool { return pod == name })
		}
		policies := of[*networking.NetworkPolicy](t, r)
		if (len(policies) == 2) == (values == "bare") {
			t.Errorf("%s: %d policies", values, len(policies))
		}
		for name, p := range policies {
			component := name[strings.LastIndex(name, "-")+1:]
			selected("policy "+name, &p.Spec.PodSelector, func(of, _ string) bool { return of == component })
			checkPorts(t, name, p, component, all)
		}
		for _, s := range of[*core.Service](t, r) {
			selected("service", &meta.LabelSelector{MatchLabels: s.Spec.Selector}, func(of, _ string) bool { return of == "dispatcher" })
		}
		for _, m := range of[*monitoring.PodMonitor](t, r) {
			selected("monitor", &m.Spec.Selector, func(string, string) bool { return true })
		}
	}
}

// checkPorts sees that a policy lets in what the pods have, and that only
// dispatchers get out to Postgres.
func checkPorts(t *testing.T, name string, p *networking.NetworkPolicy, component string, all map[string]core.PodTemplateSpec) {
	t.Helper()
	if len(p.Spec.PolicyTypes) != 2 {
		t.Errorf("%s is about %v", name, p.Spec.PolicyTypes)
	}
	for _, pod := range all {
		if pod.Labels["app.kubernetes.io/component"] != component {
			continue
		}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(c core.ContainerPort) bool { return c.Name == port.Port.StrVal }) {
					t.Errorf("%s lets in to %s, which is no port", name, port.Port)
				}
			}
		}
	}
	postgres := slices.ContainsFunc(p.Spec.Egress, func(rule networking.NetworkPolicyEgressRule) bool {
		return slices.ContainsFunc(rule.Ports, func(port networking.NetworkPolicyPort) bool {
			return port.Port.IntValue() == 5432 || port.Port.IntValue() == 6432
		})
	})
	if postgres != (component == "dispatcher") {
		t.Errorf("%s lets out to Postgres: %v", name, postgres)
	}
}

func TestAutoscaling(t *testing.T) {
	t.Parallel()
	all := cases(t)
	r := all["all"]
	deployments := of[*apps.Deployment](t, r)
	auths := of[*TriggerAuthentication](t, r)
	objects := of[*ScaledObject](t, r)
	if len(objects) != 2 || len(of[*ScaledObject](t, all["least"])) != 0 {
		t.Fatalf("%d scaled objects", len(objects))
	}
	for name, o := range objects {
		d := deployments[o.Spec.ScaleTargetRef.Name]
		if d == nil || d.Spec.Replicas != nil {
			t.Fatalf("%s: it scales %q, whose replicas Helm sets too", name, o.Spec.ScaleTargetRef.Name)
		}
		trigger := o.Spec.Triggers[0]
		if trigger.Type != "postgresql" || trigger.MetricType != autoscaling.AverageValueMetricType || auths[trigger.AuthenticationRef.Name] == nil {
			t.Errorf("%s: trigger %+v", name, trigger)
		}
		for key := range trigger.Metadata { // names of KEDA's postgresql scaler
			if !slices.Contains([]string{"query", "targetQueryValue", "activationTargetQueryValue"}, key) {
				t.Errorf("%s: KEDA knows no %s", name, key)
			}
		}
	}
	far := objects["mediaferry-worker-far"]
	trigger := far.Spec.Triggers[0].Metadata
	if want := fmt.Sprint(64 * 16 << 20); trigger["targetQueryValue"] != want || !strings.Contains(trigger["query"], "pool = 'far'") {
		t.Errorf("a worker with 64 slots is there for %v, want %s", trigger, want)
	}
	if *far.Spec.MinReplicaCount != 0 || *far.Spec.MaxReplicaCount != 50 || *objects["mediaferry-worker-default"].Spec.MinReplicaCount != 2 {
		t.Errorf("replicas %d to %d", *far.Spec.MinReplicaCount, *far.Spec.MaxReplicaCount)
	}
	if far.Spec.Fallback.Behavior != "currentReplicas" {
		t.Errorf("fallback %+v", far.Spec.Fallback)
	}
	for _, a := range auths {
		if ref := a.Spec.SecretTargetRef[0]; ref.Parameter != "connection" || ref.Name != "a" || ref.Key != "postgres-dsn" {
			t.Errorf("KEDA asks with %+v", ref)
		}
	}
}

func TestPoolsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	all := cases(t)
	far := of[*apps.Deployment](t, all["all"])["mediaferry-worker-far"].Spec.Template.Spec
	if far.Containers[0].Resources.Limits.Memory().String() != "1Gi" || far.NodeSelector["region"] != "far" || len(far.Tolerations) != 1 {
		t.Errorf("pool far: %+v, %v", far.Containers[0].Resources, far.NodeSelector)
	}
	memory := of[*apps.Deployment](t, all["bare"])["an-unusually-long-nam-worker-a-pool-of-length"].Spec.Template.Spec.Containers[0].Resources.Limits.Memory()
	if memory.Value() != (192+4*256)<<20 {
		t.Errorf("256 slots have %s", memory)
	}
}

// The programs take the settings, with what the containers have in their
// environment.
func TestSettingsAreTaken(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/dispatcher", "./cmd/worker")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for values, r := range cases(t) {
		maps := of[*core.ConfigMap](t, r)
		for name, pod := range pods(t, r) {
			c := pod.Spec.Containers[0]
			if c.Name == "migrate" {
				continue
			}
			var settings string
			for _, v := range pod.Spec.Volumes {
				if v.Name == "settings" {
					settings = maps[v.ConfigMap.Name].Data[c.Name+".yaml"]
				}
			}
			t.Run(values+" "+name, func(t *testing.T) {
				t.Parallel()
				printed := printConfig(t, filepath.Join(bin, c.Name), settings, c)
				for _, want := range map[string][]string{
					"all mediaferry-dispatcher":                          {"listen: 0.0.0.0:8443", "cert_file: /etc/mediaferry-tls/tls.crt", "max_conns: 1000", "bucket: incoming", "stop_grace: 45s", "window: 1GiB", "listen: 0.0.0.0:9999", "sample: 0.1", "level: debug"},
					"all mediaferry-worker-far":                          {"slots: 64", "pool: far", "stop_grace: 1m0s", "endpoint: https://s3.example.com:9000"},
					"all mediaferry-worker-default":                      {"slots: 16", "pool: default", "stop_grace: 20s"},
					"least mf-mediaferry-dispatcher":                     {"stream_replicas: 3", "listen: 0.0.0.0:8080", "auth: token", "endpoint: https://s3.example.com"},
					"bare an-unusually-long-nam-worker-a-pool-of-length": {"slots: 256", "pool: A_pool"},
				}[values+" "+name] {
					if !strings.Contains(printed, want) {
						t.Errorf("there is no %q in\n%s", want, printed)
					}
				}
			})
		}
	}
}

// printConfig has the program read the settings as the container would.
func printConfig(t *testing.T, program, settings string, c core.Container) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "settings.yaml")
	secret := filepath.Join(dir, "secret")
	// What a Secret mounts is not there; a file with something in it is.
	settings = strings.ReplaceAll(settings, "file:/etc/vod/key", "file:"+secret)
	for name, text := range map[string]string{file: settings, secret: "secret"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "--config="+file, "--print-config")
	cmd.Env = []string{}
	for _, e := range c.Env {
		value := e.Value
		switch {
		case e.Name == "MEDIAFERRY_SEAL_KEY" || e.Name == "MEDIAFERRY_OLD_SEAL_KEYS":
			value = strings.Repeat("0f", 32)
		case e.Name == "HOOK_SECRET":
			value = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
		case e.Name == "MEDIAFERRY_NATS_TOKEN": // a user has a password in its place
			continue
		case value == "":
			value = "given"
		}
		cmd.Env = append(cmd.Env, e.Name+"="+value)
	}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s\n%s", err, &problems, settings)
	}
	return out.String()
}

// The rules of the chart are those that are tested by Prometheus's own parser.
func TestAlertsAreThoseOfTheRepository(t *testing.T) {
	t.Parallel()
	rules := of[*monitoring.PrometheusRule](t, cases(t)["all"])["mediaferry"]
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(string(text), "- alert: "); rules == nil || len(rules.Spec.Groups) != 1 || len(rules.Spec.Groups[0].Rules) != want || want == 0 {
		t.Fatalf("%+v, want %d rules", rules, want)
	}
	if summary := rules.Spec.Groups[0].Rules[1].Annotations["summary"]; !strings.HasPrefix(summary, "{{ $labels.dependency }}") {
		t.Errorf("a summary is %q", summary)
	}
}

// What is wrong is said before anything is installed, and where.
func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	least, err := os.ReadFile("testdata/least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := render("mf", least); err != nil {
		t.Fatal(err)
	}
	for wrong, field := range map[string]string{
		"staging: {endpoint: s3.example.com}":                                               "endpoint",
		"pools: {Far: {}}":                                                                  "Far",
		"pools: {far: {slot: 16}}":                                                          "slot",
		"pools: {far: {slots: 257}}":                                                        "slots",
		"pools: {a-name-that-is-too-long: {}}":                                              "a-name-that-is-too-long",
		"dispatcher: {replicas: 2, settings: {accounts: []}}":                               "accounts",
		"dispatcher: {settings: {accounts: [{name: a}]}}":                                   "provider",
		"dispatcher: {settings: {api: {auth: none}}}":                                       "api",
		"image: {registry: registry.example.com}":                                           "registry",
		"networkPolicies: {}":                                                               "networkPolicies",
		"nats: {url: nats://n:4222, password: hidden}":                                      "password",
		"dispatcher: {settings: {accounts: [{name: a, provider: s3, window: 1073741824}]}}": "window",
		"dispatcher: {settings: {accounts: [{name: a, provider: s3, secrets: {secret_key: in-clear}}]}}": "secret_key",
	} {
		values, err := chartutil.ReadValues([]byte(wrong))
		if err != nil {
			t.Fatal(err)
		}
		right, err := chartutil.ReadValues(least)
		if err != nil {
			t.Fatal(err)
		}
		merged, err := yaml.Marshal(chartutil.CoalesceTables(values, right))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render("mf", merged); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want something about %s", wrong, err, field)
		}
	}
}
