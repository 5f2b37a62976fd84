// Package deploy_test checks that what is in this folder fits together and fits
// the programs' settings.
package deploy_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"mediaferry/internal/config"
)

type service struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	Healthcheck map[string]any    `yaml:"healthcheck"`
	StopGrace   string            `yaml:"stop_grace_period"`
	ReadOnly    bool              `yaml:"read_only"`
	Restart     string            `yaml:"restart"`
	Deploy      struct {
		Resources struct {
			Limits struct {
				CPUs   string `yaml:"cpus"`
				Memory string `yaml:"memory"`
			} `yaml:"limits"`
		} `yaml:"resources"`
	} `yaml:"deploy"`
}

type compose struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// variable is ${NAME:-default}, or what looks like a variable and is not one.
var variable = regexp.MustCompile(`\$\{(\w+)(:-([^}]*))?[^}]*\}|\$\w+`)

// interpolate puts the defaults in, as Compose does where nothing is set.
func interpolate(t *testing.T, text string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		groups := variable.FindStringSubmatch(v)
		if groups[1] == "" || groups[3] == "" {
			t.Errorf("%s has no default", v)
		}
		return groups[3]
	})
}

func loadCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	// Names of variables in comments count too: they mislead as well.
	decoder := yaml.NewDecoder(strings.NewReader(interpolate(t, read(t, "compose.yaml"))))
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeHoldsTogether(t *testing.T) {
	t.Parallel()
	c := loadCompose(t)
	want := []string{"dispatcher", "grafana", "mediaferry", "nats", "postgres", "prometheus", "s3", "worker"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(c.Services))); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	used := map[string]any{}
	for name, s := range c.Services {
		if s.Image == "" || s.Restart == "" {
			t.Errorf("%s: image %q, restart %q", name, s.Image, s.Restart)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to the network", name, port)
			}
		}
		for _, volume := range s.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); !strings.HasPrefix(source, ".") {
				used[source] = nil
			}
		}
		ours := name == "dispatcher" || name == "worker" || name == "mediaferry"
		if limits := s.Deploy.Resources.Limits; limits.CPUs == "" || limits.Memory == "" {
			t.Errorf("%s has the limits %+v", name, limits)
		}
		switch {
		case ours && (!s.ReadOnly || s.StopGrace == ""):
			t.Errorf("%s: read_only %v, stop_grace_period %q", name, s.ReadOnly, s.StopGrace)
		case name != "mediaferry" && s.Healthcheck == nil:
			t.Errorf("%s has no health check", name)
		}
	}
	if diff := cmp.Diff(c.Volumes, used); diff != "" {
		t.Errorf("volumes (-declared +used):\n%s", diff)
	}
	if len(c.Services["worker"].Ports) > 0 {
		t.Error("a worker with a port cannot be scaled")
	}
}

// The servers ask for the credentials that the clients bring.
func TestComposeCredentialsAgree(t *testing.T) {
	t.Parallel()
	s := loadCompose(t).Services
	permissions := read(t, "nats/permissions.conf")
	if command := s["nats"].Command; !slices.Contains(command, "-c=/etc/nats/permissions.conf") {
		t.Errorf("NATS is started with %v, without its permissions", command)
	}
	for _, client := range []string{"dispatcher", "worker"} {
		env := s[client].Environment
		for got, want := range map[string]string{
			env["MEDIAFERRY_STAGING_ACCESS_KEY"]: s["s3"].Environment["ROOT_ACCESS_KEY"],
			env["MEDIAFERRY_STAGING_SECRET_KEY"]: s["s3"].Environment["ROOT_SECRET_KEY"],
		} {
			if got == "" || got != want {
				t.Errorf("%s brings %q to staging, which wants %q", client, got, want)
			}
		}
		if env["MEDIAFERRY_NATS_USER"] != client || !strings.Contains(permissions, "user: "+client+",") {
			t.Errorf("%s comes to NATS as %q", client, env["MEDIAFERRY_NATS_USER"])
		}
		variable := "NATS_" + strings.ToUpper(client) + "_PASSWORD"
		if got, want := env["MEDIAFERRY_NATS_PASSWORD"], s["nats"].Environment[variable]; got == "" || got != want || !strings.Contains(permissions, "$"+variable) {
			t.Errorf("%s brings %q to NATS, which wants %q", client, got, want)
		}
	}
	pg := s["postgres"].Environment
	dsn := fmt.Sprintf("postgres://%s:%s@postgres:5432/%s?", pg["POSTGRES_USER"], pg["POSTGRES_PASSWORD"], pg["POSTGRES_DB"])
	if got := s["dispatcher"].Environment["MEDIAFERRY_POSTGRES_DSN"]; !strings.HasPrefix(got, dsn) {
		t.Errorf("the dispatcher's DSN %q does not start with %q", got, dsn)
	}
}

// The programs take the settings that compose.yaml and config/ give them.
func TestComposeSettingsAreKnown(t *testing.T) {
	t.Parallel()
	c := loadCompose(t)
	environ := func(name string) []string {
		var list []string
		for key, value := range c.Services[name].Environment {
			list = append(list, key+"="+value)
		}
		return list
	}
	var out bytes.Buffer
	rules := config.AccountRules{Providers: []string{"s3"}}
	dispatcher, err := config.LoadDispatcher([]string{"--config=config/dispatcher.yaml"}, environ("dispatcher"), &out, rules)
	if err != nil {
		t.Fatalf("dispatcher: %v", err)
	}
	worker, err := config.LoadWorker([]string{"--config=config/worker.yaml"}, environ("worker"), &out)
	if err != nil {
		t.Fatalf("worker: %v", err)
	}
	if dispatcher.NATS.URL != worker.NATS.URL || worker.NATS.URL != "nats://nats:4222" {
		t.Errorf("NATS at %s and %s", dispatcher.NATS.URL, worker.NATS.URL)
	}
	if diff := cmp.Diff(dispatcher.Staging, worker.Staging); diff != "" || worker.Staging.Endpoint != "http://s3:7070" {
		t.Errorf("staging (-dispatcher +worker):\n%s", diff)
	}
	for _, a := range dispatcher.Accounts {
		if a.Pool != worker.Pool {
			t.Errorf("no worker serves the pool %q of account %s", a.Pool, a.Name)
		}
	}
	for _, known := range []string{"--config=/etc/mediaferry/dispatcher.yaml", "--config=/etc/mediaferry/worker.yaml"} {
		if !strings.Contains(read(t, "compose.yaml"), known) {
			t.Errorf("compose.yaml does not give %s", known)
		}
	}
}

// local.env sets variables that exist, to images that images.sh builds.
func TestLocalImages(t *testing.T) {
	t.Parallel()
	file, script := read(t, "compose.yaml"), read(t, "images.sh")
	for line := range strings.Lines(read(t, "local.env")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.Contains(file, "${"+name+":-") {
			t.Errorf("compose.yaml has no variable %s", name)
		}
		image, tag, _ := strings.Cut(strings.TrimPrefix(value, "mediaferry-"), ":")
		if tag == "local" && !strings.Contains(script, "server "+image+" ") &&
			!strings.Contains(script, "mediaferry-"+image) && !strings.Contains(script, " "+image) {
			t.Errorf("images.sh does not build %s", value)
		}
	}
}

// Images hold a static binary and certificates, and do not run as root.
func TestDockerfiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"dispatcher", "worker", "mediaferry"} {
		text := read(t, "Dockerfile."+name)
		for _, want := range []string{
			"\nFROM scratch\n", "\nCOPY ${CA_CERTIFICATES} /etc/ssl/certs/ca-certificates.crt\n",
			"\nCOPY linux-${TARGETARCH}/" + name + " /" + name + "\n", "\nUSER 65532:65532\n", "\nENTRYPOINT [\"/" + name + "\"]\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("Dockerfile.%s has no line %q", name, strings.TrimSpace(want))
			}
		}
	}
}

// Prometheus asks services that there are, where they serve their metrics.
func TestPrometheusFindsTheServices(t *testing.T) {
	t.Parallel()
	var p struct {
		Files   []string `yaml:"rule_files"`
		Scrapes []struct {
			DNS []struct {
				Names []string `yaml:"names"`
				Port  int      `yaml:"port"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/compose.yml")), &p); err != nil {
		t.Fatal(err)
	}
	for _, file := range p.Files {
		_ = read(t, "prometheus/"+file)
	}
	services := loadCompose(t).Services
	var asked []string
	for _, scrape := range p.Scrapes {
		for _, dns := range scrape.DNS {
			for _, name := range dns.Names {
				asked = append(asked, name)
				if got, want := services[name].Environment["MEDIAFERRY_METRICS_LISTEN"], fmt.Sprintf("0.0.0.0:%d", dns.Port); got != want {
					t.Errorf("%s serves its metrics at %q, and is asked at %q", name, got, want)
				}
			}
		}
	}
	if diff := cmp.Diff([]string{"dispatcher", "worker"}, asked); diff != "" {
		t.Errorf("asked services (-want +got):\n%s", diff)
	}
}
