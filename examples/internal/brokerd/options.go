// Package brokerd is the reference broker: protocol/v1 in front of the engine, a
// database, keys in a file or a token, and collateral in a folder.
package brokerd

import (
	"context"
	"flag"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/tdx/pcs"
)

// Options are the flags of serve. Its zero is what a new user starts.
type Options struct {
	Listen         string
	DB             string // a file, or postgres://…
	AttestationKey string // a key file, or pkcs11:…
	RequireHSM     bool
	Policies       string // folder
	VerifyPolicies string // folder
	EKCertificates time.Duration
	Collateral     string // folder
	Fetch          bool
	KDS, PCS       string // URLs
	CCAAnchors     cli.List
	TLSCert        string
	TLSKey         string
	OwnerTokenFile string
	Checkpoints    string // folder
	AllowMissing   bool   // begin without checkpoints that were made
	TrustSimulated string // folder
	AllowSample    bool
	TrustDomain    string        // of SPIFFE, or ""
	SPIFFELife     time.Duration // of certificates
	AllowOldRows   bool

	Commands string // what comes before the name of a program in a suggestion
}

const aboutServe = `
Serve guests and owners.

Without flags, state is in your state directory: a SQLite database, the keys of
the broker and a token of tenant "default", made at first start with mode 0600.
To try it without hardware, in two terminals:

  broker serve -trust-simulated sim

and then the commands that it prints. A broker of simulated platforms has state
of its own, and is never one of genuine hardware.

In production:

  broker serve -listen :8443 -tls-cert cert.pem -tls-key key.pem \
    -db postgres://broker@db/teebroker -attestation-key 'pkcs11:token=tee;object=kek?module-path=…' \
    -require-hsm -policy /etc/teebroker/policies -collateral /var/lib/teebroker/collateral

Every flag has an environment variable, such as TEEBROKER_TLS_CERT.
Logs are JSON on standard error.`

// ServeCommand is broker serve.
func ServeCommand() cli.Command {
	return cli.Command{Name: "broker serve", About: aboutServe, Env: cli.Variable, Setup: setupServe}
}

func setupServe(fs *flag.FlagSet) cli.Action {
	var o Options
	fs.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "serve at this `ADDRESS`")
	dbFlag(fs, &o.DB)
	fs.StringVar(&o.AttestationKey, "attestation-key", "", "keys in this `FILE`, made if it isn't there; or pkcs11:URI of the attestation key in a token")
	fs.BoolVar(&o.RequireHSM, "require-hsm", false, "refuse attestation keys that can be copied")
	fs.StringVar(&o.Policies, "policy", "", "folder `DIR` of policies NAME.json that every instance of every tenant has first")
	fs.StringVar(&o.VerifyPolicies, "verify-policy", "", "answer /v2.6/verify/evidence as Keylime does, by the policies NAME.json of the folder `DIR`; default.json is for who names none")
	fs.DurationVar(&o.EKCertificates, "ek-certificates", 0, "issue owners certificates of the EKs of their guests, which end after this `TIME`, 168h at most; 0 issues none")
	fs.StringVar(&o.Collateral, "collateral", "", "folder `DIR` with revocation lists, TCB Info and QE identity, read again every ten minutes")
	fs.BoolVar(&o.Fetch, "fetch", false, "ask AMD's and Intel's services for what -collateral has not, and keep what they answer in the state directory")
	fs.StringVar(&o.KDS, "kds", "", "with -fetch, ask the key server at `URL` (default "+kds.AMD+")")
	fs.StringVar(&o.PCS, "pcs", "", "with -fetch, ask the PCS or PCCS at `URL` (default "+pcs.Intel+")")
	fs.Var(&o.CCAAnchors, "cca-anchors", "trust the keys of Arm CCA platforms in these `FILE,…`, lists of JWKs")
	fs.StringVar(&o.TLSCert, "tls-cert", "", "certificate chain of the server, `PEM`")
	fs.StringVar(&o.TLSKey, "tls-key", "", "its private key, `PEM`")
	fs.StringVar(&o.OwnerTokenFile, "owner-token-file", "", "token of tenant \"default\" in this `FILE`, made if it isn't there")
	fs.StringVar(&o.Checkpoints, "checkpoints", "", "keep signed checkpoints of the record in the folder `DIR`, not where the database is kept by somebody else (default checkpoints, beside the key file)")
	fs.BoolVar(&o.AllowMissing, "allow-missing-checkpoints", false, "begin where -checkpoints has none, though some were made: nobody knows then whether the database is an older one")
	fs.StringVar(&o.TrustSimulated, "trust-simulated", "", "trust the simulated platforms in the folder `DIR`, on a database that is for that only")
	fs.StringVar(&o.TrustDomain, "spiffe-trust-domain", "", "sign identities of SPIFFE for attested guests, spiffe://`DOMAIN`/TENANT/INSTANCE, which owners authorize as purposes spiffe/x509 and spiffe/jwt")
	fs.DurationVar(&o.SPIFFELife, "spiffe-life", time.Hour, "their certificates are good for this `DURATION`, at most 24h")
	fs.BoolVar(&o.AllowSample, "allow-sample-evidence-unsafe", false, "take \"sample\" evidence, which nothing signed, from KBS clients; with -trust-simulated only")
	fs.BoolVar(&o.AllowOldRows, "allow-unauthenticated-rows", false, "once, take a database of before rows were authenticated, and believe what is in it")
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 0 {
			return false, cli.Usagef("unexpected argument %q", args[0])
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		o.Commands = commands()
		return true, Serve(ctx, o, stdout, os.Stderr)
	}
}

func dbFlag(fs *flag.FlagSet, db *string) {
	fs.StringVar(db, "db", "", "`PATH` of the SQLite database, or postgres://…, with TLS and the server's name verified on other hosts unless sslmode says otherwise (default in your state directory)")
}
