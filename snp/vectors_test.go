package snp_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker/internal/vectors"
)

// genuine is one entry of the manifest of genuine reports.
type genuine struct {
	Name, Product, Signer          string
	ReportVersion                  uint32 `json:"report_version"`
	Policy                         string
	PlatformInfo                   string    `json:"platform_info"`
	VMPL                           uint32    `json:"vmpl"`
	NotBefore                      time.Time `json:"cert_not_before"`
	NotAfter                       time.Time `json:"cert_not_after"`
	ReportedTCB                    string    `json:"reported_tcb"` // the bytes of the report
	FWCurrent                      string    `json:"fw_current"`
	Mitigations                    string    `json:"launch_current_mit_vector"`
	ReportFile, VEKFile, ChainFile string
}

// genuineReports returns the vectors that have a report.
func genuineReports(t testing.TB) []genuine {
	t.Helper()
	var manifest struct {
		Vectors []struct {
			genuine
			ReportFile string `json:"report_file"`
			VEKFile    string `json:"vek_file"`
			ChainFile  string `json:"chain_file"`
		}
	}
	vectors.JSON(t, "snp/manifest.json", &manifest)
	var got []genuine
	for _, v := range manifest.Vectors {
		if v.ReportFile == "" {
			continue
		}
		g := v.genuine
		g.ReportFile, g.VEKFile, g.ChainFile = v.ReportFile, v.VEKFile, v.ChainFile
		got = append(got, g)
	}
	if len(got) < 8 {
		t.Fatalf("only %d genuine reports in the manifest", len(got))
	}
	return got
}

func (g genuine) report(t testing.TB) []byte { return vectors.Read(t, "snp/"+g.ReportFile) }
func (g genuine) vek(t testing.TB) []byte    { return vectors.Read(t, "snp/"+g.VEKFile) }

// genuineReport returns the vector called name.
func genuineReport(t testing.TB, name string) genuine {
	t.Helper()
	for _, g := range genuineReports(t) {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no vector %s", name)
	return genuine{}
}
