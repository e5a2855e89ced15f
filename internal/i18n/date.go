package i18n

import (
	"fmt"
	"time"
)

// taipei is the time people read. Taiwan has kept UTC+8 without summer time
// since 1980, so a fixed offset needs no time-zone data on the machine.
var taipei = time.FixedZone("Asia/Taipei", 8*60*60)

// Taipei gives the time zone that pages show.
func Taipei() *time.Location { return taipei }

// rocOffset is the difference between a year of the common era and of the
// Republic of China calendar, which official papers use.
const rocOffset = 1911

// Date writes a day as people in the language write it: 115年11月23日, 23 Nov 2026.
func Date(lang Lang, t time.Time) string {
	t = t.In(taipei)
	if lang == En || t.Year() <= rocOffset {
		return t.Format("2 Jan 2006")
	}
	return fmt.Sprintf("%d年%d月%d日", t.Year()-rocOffset, int(t.Month()), t.Day())
}

// DateTime writes a day with hours and minutes: 115年11月23日 14:02, 23 Nov 2026, 14:02.
func DateTime(lang Lang, t time.Time) string {
	if lang == En {
		return Date(lang, t) + ", " + Clock(t)
	}
	return Date(lang, t) + " " + Clock(t)
}

// Clock writes hours and minutes: 14:02.
func Clock(t time.Time) string { return t.In(taipei).Format("15:04") }

// Machine writes a time for the datetime attribute, with the offset +08:00.
func Machine(t time.Time) string { return t.In(taipei).Format("2006-01-02T15:04:05-07:00") }

// Size writes a number of bytes for people: 812 B, 4.2 kB, 1.0 GB (powers of 1000).
func Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n), []string{"kB", "MB", "GB", "TB"}
	i := -1
	for v >= 999.5 && i+1 < len(units) {
		v /= 1000
		i++
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, units[i])
	}
	return fmt.Sprintf("%.0f %s", v, units[i])
}
