package v1_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// docs/http.md has every route there is, under who may ask, and no other.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	owner := false
	for _, m := range regexp.MustCompile("(?m)^## (\\w+)|^\\| `(GET|PUT|POST|DELETE)(?:` or `(POST))? ([^`]+)`").FindAllStringSubmatch(string(b), -1) {
		if m[1] != "" {
			owner = m[1] == "Owners"
			continue
		}
		for _, method := range []string{m[2], m[3]} {
			if method == "" {
				continue
			}
			documented = append(documented, line(method, m[4], owner))
		}
	}
	var served []string
	for _, r := range newOwned(t, nil).server.Routes() {
		served = append(served, line(r.Method, r.Path, r.Owner))
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented\n%q\nserved\n%q", documented, served)
	}
}

func line(method, path string, owner bool) string {
	if owner {
		return method + " " + path + " of owners"
	}
	return method + " " + path
}
