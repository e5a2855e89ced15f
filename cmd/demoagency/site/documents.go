package site

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// file is something to be signed.
type file struct {
	Name      string
	MediaType string
	Content   []byte
}

// serve offers the file as a download.
func (f file) serve(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", f.MediaType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
	_, _ = w.Write(f.Content)
}

func text(name string, lines ...string) file {
	return file{Name: name, MediaType: "text/plain", Content: []byte(strings.Join(lines, "\n") + "\n")}
}

var taipei = time.FixedZone("+08:00", 8*60*60)

// sampleFiles are the two documents that wait for approval. They are always
// the same, so that they can be looked at before and after.
func sampleFiles(lang lang) []file {
	if lang == en {
		return []file{
			text("Letter-DEMO-1150000123.txt",
				"DEMO AGENCY - LETTER (sample for demonstration, no legal effect)", "",
				"To: Demo School", "Date: 23 November 2026", "Reference: DEMO-1150000123", "",
				"Subject: Digital signing will be used for internal approvals from 1 January 2027.", "",
				"1. Staff approve documents on their own phone with fingerprint or face.",
				"2. Each approval gives a PKCS#7 signature that anyone can verify."),
			text("Request-laptops.txt",
				"DEMO AGENCY - PURCHASE REQUEST (sample for demonstration, no legal effect)", "",
				"Item: laptop computers, 12 units", "Estimated amount: NT$ 420,000", "Reason: replacement after five years of use"),
		}
	}
	return []file{
		text("示範機關函_示資字第1150000123號.txt",
			"示範機關　函（展示用範例，不具法律效力）", "",
			"受文者：示範學校", "發文日期：中華民國115年11月23日", "發文字號：示資字第1150000123號", "",
			"主旨：自116年1月1日起，內部公文簽核改採數位簽章，請查照。", "",
			"說明：", "　一、同仁以自己的手機，用指紋或臉部確認後完成簽核。", "　二、每次簽核產生 PKCS#7 簽章，任何人都可以驗證。"),
		text("簽_採購筆記型電腦.txt",
			"示範機關　簽（展示用範例，不具法律效力）", "",
			"主旨：擬採購筆記型電腦12部，簽請核示。", "",
			"說明：現有設備已使用五年，預估金額新臺幣420,000元，由資訊設備費項下支應。"),
	}
}

var accountForm = regexp.MustCompile(`^[0-9]{3}-[0-9]{6,14}$`)
var amountForm = regexp.MustCompile(`^[1-9][0-9]{0,6}$`)

// prepare makes the text that the phone shows and the files that are signed.
func prepare(what string, form url.Values, lang lang, now time.Time) (string, []file, error) {
	zh := lang != en
	at := now.In(taipei)
	switch what {
	case "documents":
		return prepareDocuments(form, lang)
	case "clock-in":
		kind := map[string][2]string{"in": {"上班", "in"}, "out": {"下班", "out"}}[form.Get("kind")]
		if kind[0] == "" {
			return "", nil, errors.New("kind")
		}
		stamp := at.Format("2006-01-02 15:04:05 -07:00")
		if zh {
			return kind[0] + "打卡 " + at.Format("15:04"), []file{text("差勤打卡_"+at.Format("20060102_150405")+".txt",
				"示範機關　差勤紀錄（展示用範例）", "", "類別："+kind[0], "時間："+stamp)}, nil
		}
		return "Clock " + kind[1] + " " + at.Format("15:04"), []file{text("Clock-"+kind[1]+"-"+at.Format("20060102-150405")+".txt",
			"DEMO AGENCY - ATTENDANCE RECORD (sample)", "", "Kind: clock "+kind[1], "Time: "+stamp)}, nil
	case "transfer":
		account, amount, note := form.Get("account"), form.Get("amount"), strings.TrimSpace(form.Get("note"))
		if !accountForm.MatchString(account) {
			return "", nil, errors.New("account")
		}
		if !amountForm.MatchString(amount) {
			return "", nil, errors.New("amount")
		}
		if !utf8.ValidString(note) || utf8.RuneCountInString(note) > 40 || strings.ContainsFunc(note, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return "", nil, errors.New("note")
		}
		return prepareTransfer(zh, account, thousands(amount), note, at)
	}
	return "", nil, errors.New("what")
}

func prepareDocuments(form url.Values, lang lang) (string, []file, error) {
	var files []file
	for i, f := range sampleFiles(lang) {
		if form.Get(fmt.Sprintf("document%d", i)) == "on" {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return "", nil, errors.New("documents")
	}
	if lang == en {
		return fmt.Sprintf("Approve %d document(s)", len(files)), files, nil
	}
	return fmt.Sprintf("核准公文 %d 件", len(files)), files, nil
}

func prepareTransfer(zh bool, account, amount, note string, at time.Time) (string, []file, error) {
	stamp := at.Format("2006-01-02 15:04:05 -07:00")
	if zh {
		return "轉帳新臺幣 " + amount + " 元至 " + account, []file{text("轉帳確認_"+at.Format("20060102_150405")+".txt",
			"示範銀行　轉帳確認（展示用範例，不會真的轉帳）", "", "轉入帳號："+account, "金額：新臺幣 "+amount+" 元", "備註："+note, "時間："+stamp)}, nil
	}
	return "Transfer NT$ " + amount + " to " + account, []file{text("Transfer-"+at.Format("20060102-150405")+".txt",
		"DEMO BANK - TRANSFER CONFIRMATION (sample, no money moves)", "", "To account: "+account, "Amount: NT$ "+amount, "Note: "+note, "Time: "+stamp)}, nil
}

// thousands groups the digits of a number.
func thousands(n string) string {
	for i := len(n) - 3; i > 0; i -= 3 {
		n = n[:i] + "," + n[i:]
	}
	return n
}
