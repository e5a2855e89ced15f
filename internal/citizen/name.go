package citizen

import "strings"

// Masked hides the middle of a person's name, enough for the person to
// recognise it and for a bystander not to: 王小明 → 王○明, 王明 → 王○. Names of
// several words keep each word's first character: "Anna Lee" → "A○○○ L○○".
func Masked(name string) string {
	name = strings.TrimSpace(name)
	if strings.ContainsFunc(name, separatesWords) {
		var b strings.Builder
		first := true
		for _, r := range name {
			switch {
			case separatesWords(r):
				b.WriteRune(r)
				first = true
			case first:
				b.WriteRune(r)
				first = false
			default:
				b.WriteRune('○')
			}
		}
		return b.String()
	}
	r := []rune(name)
	for i := 1; i < len(r); i++ {
		if i < len(r)-1 || len(r) == 2 {
			r[i] = '○'
		}
	}
	if len(r) == 1 {
		return "○"
	}
	return string(r)
}

// separatesWords: a space, and the dots that romanised and indigenous names use.
func separatesWords(r rune) bool {
	return r == ' ' || r == '\u3000' || r == '‧' || r == '·' || r == '．' || r == '・' || r == '-'
}
