package ownercli

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

const aboutRegister = `
Register an instance, or change it, which ends its open authorizations.

An instance is accepted by all of its policies, widest first; the first one is of
scope global. With -measurement it also has one of its own, which names what it may
be measured as. -launch says how a guest shows that it is this instance and no
other of the same image: by the launch identity that its host gave it (host-data),
by a measurement that no other instance has, or not at all (shared).

  owner register -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -policy production
  owner register -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -policy production \
    -tee snp -measurement 5f0c… -launch measurement`

type registration struct {
	instance     instanceFlag
	tee, image   string
	measurements cli.List
	policies     cli.List
	launch       string
	suites       cli.List
	profiles     cli.List
	purposes     cli.List
	unpinned     bool

	newKey string // that is to take the place of -order-key
}

func registerCommand() cli.Command {
	return cli.Command{Name: "owner register", About: aboutRegister, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, r := serviceFlags(fs), registration{}
		r.instance.register(fs)
		fs.StringVar(&r.tee, "tee", "snp", "`TEE` that -measurement is of: snp, tdx or cca")
		fs.StringVar(&r.image, "image", "", "`NAME` of its image, for people")
		fs.Var(&r.measurements, "measurement", "measurements `HEX,…` that it may have: launch digest, MRTD or RIM")
		fs.Var(&r.policies, "policy", "policies `NAME,…`, widest first")
		fs.StringVar(&r.launch, "launch", "host-data", "how it is told from others: host-data, measurement or shared")
		fs.Var(&r.suites, "suite", "suites `NAME,…` of guests' keys (default "+string(keywrap.MLKEM768X25519)+")")
		fs.Var(&r.profiles, "profile", "protocols `NAME,…` that release -purpose: v1, kbs-svsm, kbs-coco (default v1)")
		fs.Var(&r.purposes, "purpose", "purposes `NAME,…` that -profile is about")
		fs.BoolVar(&r.unpinned, "allow-unpinned-broker", false, "admit guests that pin no broker: they can't tell who sent the secret")
		fs.StringVar(&r.newKey, "new-order-key", "", "the owner key in this `FILE` takes the place of -order-key")
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) { return r.run(ctx, s, c) })
	}}
}

func (r registration) run(ctx context.Context, s *service, c *v1.Client) (result, error) {
	if err := missing("instance", r.instance.text()); err != nil {
		return result{}, err
	}
	reg, own, err := r.build()
	if err != nil {
		return result{}, err
	}
	by, then := c, *s // who orders the policy of the instance itself
	if r.newKey != "" {
		if s.order == "" {
			return result{}, cli.Usagef("-new-order-key goes with -order-key, the one before")
		}
		then.order = r.newKey
		if by, err = then.client(); err != nil {
			return result{}, err
		}
	}
	if reg.OwnerKey, err = ownerKey(then.order); err != nil {
		return result{}, err
	}
	if own != nil {
		if err := by.PutPolicy(ctx, r.ownPolicy(), own); err != nil {
			return result{}, err
		}
	}
	got, err := c.Register(ctx, r.instance.id, reg)
	if err != nil {
		return result{}, err
	}
	return instanceResult(got, nil), nil
}

// ownPolicy is what the policy of the instance itself is called.
func (r registration) ownPolicy() string { return "instance-" + r.instance.text() }

// tees are what a measurement is called: format, member of a policy, and claim.
func teeOf(name string) (format, member, claim string, err error) {
	switch name {
	case "snp":
		return "snp-report", "measurements", "snp.measurement", nil
	case "tdx":
		return "tdx-quote", "mrtd", "tdx.mrtd", nil
	case "cca":
		return "cca-token", "rims", "cca.rim", nil
	}
	return "", "", "", cli.Usagef("-tee: no such TEE: %s", name)
}

// build returns what to register and the policy document of the instance, if it
// has one.
func (r registration) build() (store.Registration, []byte, error) {
	reg := store.Registration{
		Image: r.image, Policies: slices.Clone(r.policies), AllowUnpinnedBroker: r.unpinned,
		Suites: []keywrap.Suite{keywrap.MLKEM768X25519},
	}
	if len(r.suites) > 0 {
		reg.Suites = nil
		for _, s := range r.suites {
			reg.Suites = append(reg.Suites, keywrap.Suite(s))
		}
		if slices.Contains(reg.Suites, keywrap.JWERSA) {
			reg.MinRSABits = 3072
			if slices.Contains(r.profiles, string(nonce.ProfileCoCo)) { // whose clients have shorter keys
				reg.MinRSABits = 2048
			}
		}
	}
	format, member, claim, err := teeOf(r.tee)
	if err != nil {
		return reg, nil, err
	}
	if err := r.setLaunch(&reg, claim); err != nil {
		return reg, nil, err
	}
	if err := r.setProfiles(&reg); err != nil {
		return reg, nil, err
	}
	if len(r.measurements) == 0 {
		return reg, nil, nil
	}
	doc, err := json.Marshal(map[string]any{
		"policy": policy.DocumentType, "name": r.ownPolicy(), "version": "1", "scope": policy.Instance,
		"require": map[string]any{format: []any{map[string]any{member: lower(r.measurements)}}},
	})
	reg.Policies = append(reg.Policies, r.ownPolicy())
	return reg, doc, err
}

func lower(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(s)
	}
	return out
}

func (r registration) setLaunch(reg *store.Registration, claim string) error {
	switch r.launch {
	case "host-data":
		reg.Launch.Own = true
	case "measurement":
		if len(r.measurements) == 0 {
			return cli.Usagef("-launch measurement needs -measurement")
		}
		for _, m := range r.measurements {
			b, err := hex.DecodeString(m)
			if err != nil {
				return cli.Usagef("-measurement: not hexadecimal")
			}
			reg.Launch.Claims = append(reg.Launch.Claims, store.Claim{Name: claim, Want: b})
		}
	case "shared":
		reg.AllowSharedLaunchIdentity = true
	default:
		return cli.Usagef("-launch: want host-data, measurement or shared")
	}
	return nil
}

func (r registration) setProfiles(reg *store.Registration) error {
	if len(r.profiles) == 0 || slices.Equal(r.profiles, cli.List{"v1"}) && len(r.purposes) == 0 {
		return nil
	}
	if len(r.purposes) == 0 {
		return cli.Usagef("-profile other than v1 needs -purpose: it is for some secrets, not for all")
	}
	reg.Profiles = map[string][]nonce.Profile{}
	for _, purpose := range r.purposes {
		for _, p := range r.profiles {
			reg.Profiles[purpose] = append(reg.Profiles[purpose], nonce.Profile(p))
		}
	}
	return nil
}

// instanceResult shows an instance and its authorizations.
func instanceResult(i v1.Instance, as []v1.Authorization) result {
	return result{map[string]any{"instance": i, "authorizations": append([]v1.Authorization{}, as...)}, func(p *cli.Page) {
		p.Line(cli.Cell{Text: i.ID.String(), Style: cli.Bold}, cli.Cell{Text: fmt.Sprintf("tenant %s, generation %d", i.Tenant, i.Generation)})
		r := i.Registration
		rows := [][]cli.Cell{
			{{Text: "policies", Style: cli.Dim}, {Text: strings.Join(r.Policies, ", ")}},
			{{Text: "launch", Style: cli.Dim}, launchCell(r)},
			{{Text: "suites", Style: cli.Dim}, {Text: joined(r.Suites)}},
			{{Text: "owner key", Style: cli.Dim}, ownerCell(r)},
			{{Text: "secrets", Style: cli.Dim}, {Text: strings.Join(i.Secrets, ", ")}},
		}
		for purpose, digest := range i.Blobs {
			rows = append(rows, []cli.Cell{{Text: "blob " + purpose, Style: cli.Dim}, {Text: fmt.Sprintf("%x", digest)}})
		}
		if r.AllowUnpinnedBroker {
			rows = append(rows, []cli.Cell{{Text: "weakened", Style: cli.Dim}, {Text: "guests need not pin a broker", Style: cli.Warn}})
		}
		p.Table("Instance", rows)
		rows = nil
		for _, a := range as {
			rows = append(rows, authorizationRow(a))
		}
		p.Table("Authorizations", rows)
	}}
}

func launchCell(r store.Registration) cli.Cell {
	var ways []string
	if r.Launch.Own {
		ways = append(ways, "its launch identity")
	}
	for _, c := range r.Launch.Claims {
		ways = append(ways, fmt.Sprintf("%s %x", c.Name, []byte(c.Want)))
	}
	if r.AllowSharedLaunchIdentity {
		return cli.Cell{Text: "shared: a compromised guest of the same image can ask in its place", Style: cli.Warn}
	}
	return cli.Cell{Text: strings.Join(ways, ", or ")}
}

func ownerCell(r store.Registration) cli.Cell {
	if r.OwnerKey == (strictjson.Digest{}) {
		return cli.Cell{Text: "none: the token is enough", Style: cli.Dim}
	}
	return cli.Cell{Text: base64.RawURLEncoding.EncodeToString(r.OwnerKey[:])}
}

func joined[S ~string](list []S) string {
	var all []string
	for _, s := range list {
		all = append(all, string(s))
	}
	return strings.Join(all, ", ")
}

func authorizationRow(a v1.Authorization) []cli.Cell {
	style := cli.Plain
	if a.State == "OPEN" {
		style = cli.Good
	}
	return []cli.Cell{
		{Text: a.State, Style: style},
		{Text: fmt.Sprintf("%d of %d used", a.Used, max(a.Uses, 1))},
		{Text: strings.Join(a.Purposes, ", ")},
		{Text: "until " + a.NotAfter.Local().Format("2006-01-02 15:04:05")},
		{Text: a.ID.String(), Style: cli.Dim},
	}
}

const aboutStatus = `
Show an instance: how it is registered, what it has, and what was authorized.

  owner status -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11`

func statusCommand() cli.Command {
	return cli.Command{Name: "owner status", About: aboutStatus, Env: env, Setup: func(fs *flag.FlagSet) cli.Action {
		s, i := serviceFlags(fs), instanceFlag{}
		i.register(fs)
		return s.command(func(ctx context.Context, c *v1.Client) (result, error) {
			if err := missing("instance", i.text()); err != nil {
				return result{}, err
			}
			got, err := c.Instance(ctx, i.id)
			if err != nil {
				return result{}, err
			}
			as, err := c.Authorizations(ctx, i.id)
			if err != nil {
				return result{}, err
			}
			return instanceResult(got, as), nil
		})
	}}
}

// readSecret returns a file of 1 byte to limit.
func readSecret(path string, limit int64) ([]byte, error) {
	b, err := cli.ReadFile(path, limit)
	if err == nil && len(b) == 0 {
		err = errors.New(path + ": empty")
	}
	return b, err
}
