package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/simulator"
)

type simulateOptions struct {
	settings   settings
	listen     string
	volumes    int
	seed       uint64
	faults     string
	journal    string
	cloudsFile string
	pairsFile  string
	speed      float64
	capacity   int
}

func newSimulate(g *globals, e env) *cobra.Command {
	var o simulateOptions
	cmd := &cobra.Command{
		Use: "simulate", Short: "serve a cloud in memory, for demos and tests", Args: takes(),
		Long: `Simulate serves a cloud in memory over HTTP: volumes db-0001, db-0002 … with one
backup each, Keystone to log in, and a restore that behaves like Cinder's.
It runs until it is stopped.`,
		Example: "  vbsrestore simulate --listen 127.0.0.1:8776 --volumes 20 --clouds-file clouds.yaml --pairs-file pairs.csv",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runSimulate(cmd.Context(), o, e)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:8776", "address to serve on; port 0 takes a free one")
	f.IntVar(&o.volumes, "volumes", 20, "how many volumes there are")
	f.Uint64Var(&o.seed, "seed", 1, "decides all random choices")
	f.StringVar(&o.faults, "faults", "none", "what goes wrong: none, standard, hostile or a JSON file")
	f.StringVar(&o.journal, "journal", "", "folder in which the cloud survives a restart")
	f.StringVar(&o.cloudsFile, "clouds-file", "", "write a clouds.yaml for this cloud")
	f.StringVar(&o.pairsFile, "pairs-file", "", "write a CSV with a backup for each volume, as enqueue --file reads it")
	f.Float64Var(&o.speed, "speed", 1, "GiB/s of one restore")
	f.IntVar(&o.capacity, "capacity", 15, "restores at once; others wait in the cloud; -1 for no limit")
	return cmd
}

func runSimulate(ctx context.Context, o simulateOptions, e env) error {
	if o.volumes < 0 || o.speed <= 0 || o.capacity == 0 {
		return usagef("--volumes must not be negative, --speed above 0 and --capacity not 0")
	}
	faults, err := readFaults(o.faults)
	if err != nil {
		return err
	}
	cloud, err := simulator.New(simulator.Config{Seed: o.seed, Volumes: o.volumes, Capacity: o.capacity, GiBPerSecond: o.speed, Faults: faults,
		Journal: o.journal, Log: o.settings.logger(e)})
	if err != nil {
		return fmt.Errorf("make the cloud: %w", err)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return errors.Join(fmt.Errorf("serve the cloud: %w", err), cloud.Close())
	}
	base := "http://" + reachable(listener.Addr())
	if err := o.writeFiles(cloud, base); err != nil {
		return errors.Join(err, listener.Close(), cloud.Close())
	}
	fmt.Fprintf(e.Stderr, "listening on %s with %d volumes; user demo, password demo\n", base, len(cloud.Volumes()))
	return serveCloud(ctx, cloud, listener)
}

const goodbye = 5 * time.Second

func serveCloud(ctx context.Context, cloud *simulator.Cloud, listener net.Listener) error {
	server := &http.Server{Handler: cloud, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("serve the cloud: %w", err), cloud.Close())
	case <-ctx.Done():
	}
	err := cloud.Close() // ends answers that hang
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if server.Shutdown(patience) != nil {
		err = errors.Join(err, server.Close())
	}
	<-ended
	return err
}

func readFaults(what string) (simulator.Faults, error) {
	switch what {
	case "", "none":
		return simulator.Faults{}, nil
	case "standard":
		return simulator.StandardFaults(), nil
	case "hostile":
		return simulator.HostileFaults(), nil
	}
	content, err := os.ReadFile(what)
	if err != nil {
		return simulator.Faults{}, hint(usagef("read faults: %w", err), "--faults takes none, standard, hostile or a JSON file")
	}
	faults, err := simulator.ParseFaults(content)
	if err != nil {
		return faults, usagef("faults of %s: %w", what, err)
	}
	return faults, nil
}

// reachable is the address with a host that a client can use.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return a.String()
}

func (o simulateOptions) writeFiles(cloud *simulator.Cloud, base string) error {
	if o.cloudsFile != "" {
		if err := os.WriteFile(o.cloudsFile, cloud.CloudsYAML(base+"/v3"), 0o600); err != nil {
			return fmt.Errorf("write clouds.yaml: %w", err)
		}
	}
	if o.pairsFile == "" {
		return nil
	}
	f, err := os.Create(o.pairsFile)
	if err != nil {
		return fmt.Errorf("write pairs: %w", err)
	}
	return errors.Join(writePairs(csv.NewWriter(f), cloud), f.Close())
}

func writePairs(out *csv.Writer, cloud *simulator.Cloud) error {
	names := map[string]string{}
	for _, v := range cloud.Volumes() {
		names[v.ID] = v.Name
	}
	_ = out.Write([]string{"backup_id", "volume_id", "volume_name"}) // Error tells
	for _, p := range cloud.Pairs() {
		_ = out.Write([]string{p.BackupID, p.VolumeID, names[p.VolumeID]})
	}
	out.Flush()
	return out.Error()
}
