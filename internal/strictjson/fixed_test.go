package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestUUID(t *testing.T) {
	const text = "315c01df-1bd2-43ac-a8e0-0ef00acb5585"
	u, err := ParseUUID(text)
	if err != nil || u.String() != text || u[0] != 0x31 || u[15] != 0x85 {
		t.Errorf("ParseUUID = %v, %v", u, err)
	}
	for _, bad := range []string{
		"", strings.ToUpper(text), "{" + text[1:35] + "}", text + "0", text[:35], strings.ReplaceAll(text, "-", ""),
		"315c01df01bd2-43ac-a8e0-0ef00acb5585", "315c01df-1bd2-43ac-a8e0-0ef00acb558é"[:36], "g15c01df-1bd2-43ac-a8e0-0ef00acb5585",
	} {
		if _, err := ParseUUID(bad); err == nil {
			t.Errorf("ParseUUID takes %q", bad)
		}
	}
}

func TestFixed(t *testing.T) {
	type pair struct {
		D Digest `json:"d"`
		U UUID   `json:"u"`
	}
	want := pair{Digest{31: 1}, UUID{15: 2}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got pair
	if err := Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("%s decodes to %v, %v", b, got, err)
	}
	for _, bad := range []string{
		`{"d":null}`, `{"u":null}`, `{"d":"AA"}`, `{"d":""}`, `{"d":1}`, `{"u":""}`, `{"u":[1]}`,
		`{"d":"` + strings.Repeat("A", 42) + `B"}`, // stray bits
	} {
		if err := Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("takes %s", bad)
		}
	}
}

func FuzzParseUUID(f *testing.F) {
	f.Add("315c01df-1bd2-43ac-a8e0-0ef00acb5585")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUUID(s); err == nil && u.String() != s {
			t.Errorf("%q is another text of %v", s, u)
		}
	})
}
