package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	pgUser     = "mediaferry" // superuser of the server
	pgDatabase = "mediaferry"
	// pgConnections leaves room for the tests of a package that run at once.
	pgConnections = "300"
	pgStopGrace   = 20 * time.Second
)

// PostgresOptions say how a server is to run. The zero value is fine.
type PostgresOptions struct {
	Port int // 0 takes a free one
	// Volatile trades durability for speed: what was committed survives Stop
	// and Start, but not the loss of the machine's power. For tests.
	Volatile bool
	Output   io.Writer // gets what the server says; nil drops it
}

// Postgres is a Postgres server over a folder, as a child process.
type Postgres struct {
	bin, dir string
	opts     PostgresOptions
	account  *account // nil runs as ourselves
	password string
	child    *child // nil while stopped
}

// StartPostgres starts a server that keeps its data in dir, initialising it
// if it is empty, and returns when it answers. Started by root it runs as
// "postgres" or "nobody", who must be able to enter dir. It stays on the same
// port through Stop and Start.
func StartPostgres(ctx context.Context, dir string, opts PostgresOptions) (*Postgres, error) {
	p := &Postgres{dir: dir, opts: opts}
	if err := p.prepare(ctx); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	if err := onPort(ctx, &p.opts.Port, p.Start); err != nil {
		return nil, err
	}
	return p, nil
}

// prepare finds the binaries and the account and makes the data folder.
func (p *Postgres) prepare(ctx context.Context) (err error) {
	version, err := os.ReadFile(filepath.Join(p.dataDir(), "PG_VERSION"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at the data: %w", err)
	}
	if p.bin, err = findPostgres(ctx, strings.TrimSpace(string(version))); err != nil {
		return err
	}
	if p.account, err = serverAccount(); err != nil {
		return err
	}
	if len(version) == 0 {
		if err := p.initialise(ctx); err != nil {
			return err
		}
	}
	password, err := os.ReadFile(p.passwordFile())
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	p.password = string(password)
	return p.account.checkReach(p.dataDir())
}

func (p *Postgres) dataDir() string      { return filepath.Join(p.dir, "data") }
func (p *Postgres) passwordFile() string { return filepath.Join(p.dir, "password") }

// initialise makes the data folder under another name and renames it, so that
// one half made is never taken for a whole one.
func (p *Postgres) initialise(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, dirMode); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	// A umask may have closed it to the server's account.
	if err := os.Chmod(p.dir, dirMode); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	fresh := p.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove a data folder half made: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.WriteFile(p.passwordFile(), []byte(rand.Text()), 0o600); err != nil {
		return fmt.Errorf("write the password: %w", err)
	}
	for _, name := range []string{fresh, p.passwordFile()} {
		if err := p.account.own(name); err != nil {
			return err
		}
	}
	if err := p.account.checkReach(fresh); err != nil {
		return err
	}
	output := &tail{w: p.opts.Output}
	cmd := p.command(ctx, "initdb", output,
		"--pgdata="+fresh, "--username="+pgUser, "--pwfile="+p.passwordFile(),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	c, err := startChild(cmd, syscall.SIGKILL, p.account)
	if err != nil {
		return err
	}
	<-c.done
	if c.err != nil {
		return fmt.Errorf("initdb: %w", &exitError{state: cmd.ProcessState, output: output.String()})
	}
	if err := os.Rename(fresh, p.dataDir()); err != nil {
		return fmt.Errorf("put the data folder in place: %w", err)
	}
	return nil
}

// command runs a program of Postgres in a folder that its account can enter.
func (p *Postgres) command(ctx context.Context, name string, output io.Writer, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...) //nolint:gosec // the operator chooses the binaries
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = output, output
	return cmd
}

// Start starts the server again after Stop, over the same data.
func (p *Postgres) Start(ctx context.Context) error {
	if p.child != nil {
		return errors.New("start Postgres: it runs already")
	}
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(p.opts.Port),
		// None: a socket's path may have 107 bytes only, and TCP does.
		"unix_socket_directories=",
		"max_connections=" + pgConnections,
		"timezone=UTC",
		"log_timezone=UTC",
	}
	if p.opts.Volatile {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	args := []string{"-D", p.dataDir()}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	output := &tail{w: p.opts.Output}
	// The child lives until Stop, not until ctx ends. SIGINT has it roll back
	// what is open and shut down in order.
	c, err := startChild(p.command(context.WithoutCancel(ctx), "postgres", output, args...), syscall.SIGINT, p.account)
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	p.child = c
	if err := c.await(ctx, "the server", output, p.ensureDatabase); err != nil {
		p.Stop()
		return fmt.Errorf("start Postgres: %w", err)
	}
	return nil
}

// ensureDatabase is the first thing asked of the server. Only ours knows the
// password, whoever else got the port.
func (p *Postgres) ensureDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.databaseDSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgDatabase)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42P04" { // duplicate_database
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

// DSN returns the address of the database "mediaferry". It holds a password.
func (p *Postgres) DSN() string { return p.databaseDSN(pgDatabase) }

func (p *Postgres) databaseDSN(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(pgUser, p.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.opts.Port)),
		Path:     database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop ends the server in order: connections are closed, open transactions
// rolled back, everything is on disk. It may be repeated.
func (p *Postgres) Stop() {
	if p.child == nil {
		return
	}
	p.child.stop(syscall.SIGINT, pgStopGrace)
	p.child = nil
}

// PID returns the process id of the server, whose backends are its children.
func (p *Postgres) PID() int { return p.child.cmd.Process.Pid }

// Restart stops the server and starts it over the same data, on the same port.
func (p *Postgres) Restart(ctx context.Context) error {
	p.Stop()
	return p.Start(ctx)
}
