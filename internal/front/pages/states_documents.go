package pages

import (
	"bytes"
	"time"

	"sealgate/internal/dossier"
	"sealgate/internal/order"
)

// documents adds the states of the pages of official documents.
func (s *States) documents() {
	s.add("documents", "none", sample{page: "pages/documents", data: InboxData{Most: 200}})
	tax, school := sampleParty("示範稅務局", "Demonstration Tax Office"), sampleParty("示範學校", "Demonstration School")
	one := samplePoint(tax, "示資字第1150000123號", "自116年1月1日起，內部公文簽核改採數位簽章，請查照。", "科長")
	deputy := samplePoint(tax, "示總字第1150000088號", "擬採購筆記型電腦12部，簽請核示。", "局長")
	deputy.For, deputy.Deputy = "測○甲", &dossier.Deputy{Reason: "公出", NotAfter: sampleTime.Add(48 * time.Hour)}
	later := samplePoint(school, "DEMO-2026-0007", "A document with a rather long English title, to see how it breaks on a narrow screen", "Director")
	later.Point.State, later.Point.LaterReason, later.Point.Failure = dossier.PointLater, "憑證換發中", "dossier_left_out"
	s.add("documents", "waiting", sample{page: "pages/documents", data: InboxData{Groups: grouped([]PointRow{one, deputy, later}), Most: 200, Total: 3}})
	var many []PointRow
	for range 12 {
		w := one
		w.Open = false
		many = append(many, w)
	}
	s.add("documents", "many", sample{page: "pages/documents", data: InboxData{Groups: grouped(many), Most: 200, Total: len(many)}})
	s.add("documents", "return", sample{page: "pages/documents-return", data: ReturnData{Row: one}})
	s.add("documents", "return-wrong", sample{page: "pages/documents-return", data: ReturnData{Row: one, Invalid: true}})
	s.add("documents", "signed-none", sample{page: "pages/documents-signed", data: []PointRow{}})
	one, deputy = samplePoint(tax, "示資字第1150000123號", "自116年1月1日起，內部公文簽核改採數位簽章，請查照。", "科長"),
		samplePoint(school, "示總字第1150000088號", "擬採購筆記型電腦12部，簽請核示。", "局長")
	for i, w := range []*PointRow{&one, &deputy} {
		at := sampleTime
		w.Point.State, w.Point.SignedAt, w.Point.Comment = dossier.PointSigned, &at, "擬如擬"
		w.Dossier.State = dossier.Completed
		if i == 1 {
			w.Point.State, w.Dossier.State = dossier.PointReturned, dossier.Returned
		}
	}
	s.add("documents", "signed", sample{page: "pages/documents-signed", data: []PointRow{one, deputy}})
	for state, claim := range map[order.State]dossier.ClaimState{order.Created: dossier.ClaimOut, order.Scanned: dossier.ClaimOut,
		order.Approved: dossier.ClaimOut, order.Completed: dossier.ClaimAttached, order.Rejected: dossier.ClaimVoid, order.Expired: dossier.ClaimVoid} {
		s.add("documents-order", string(state), samplePointsOrder(state, claim, claim, ""))
	}
	s.add("documents-order", "partly", samplePointsOrder(order.Completed, dossier.ClaimAttached, dossier.ClaimLeftOut, ""))
	s.add("documents-order", "waiting", samplePointsOrder(order.Approved, dossier.ClaimOut, dossier.ClaimOut, "tsa_unavailable"))
	s.add("documents-order", "waiting-other", samplePointsOrder(order.Approved, dossier.ClaimOut, dossier.ClaimOut, "internal"))
}

func sampleParty(zh, en string) order.Client {
	c := order.Client{ClientID: en, AgencyName: order.Names{"zh-Hant": zh, "en": en}, Name: order.Names{"zh-Hant": "公文系統", "en": "Document system"}}
	c.ID[0] = byte(len(en))
	return c
}

func samplePoint(c order.Client, reference, title, point string) PointRow {
	at := sampleTime
	id, _ := dossier.ParseID("AZqsVd0mfKOnNmxyM29wAQ")
	d := &dossier.Dossier{ID: id, ClientID: c.ID, Reference: reference, Title: title, Revision: 2, Level: "B-B", State: dossier.Open, ExpiresAt: sampleTime.Add(720 * time.Hour),
		Files: []dossier.File{{Number: 1, Name: "函稿.pdf", Size: 482113, Digest: bytes.Repeat([]byte{0xA1}, 32)},
			{Number: 2, Name: "A rather long English file name, version 12 final.pdf", Size: 20_400_000, Digest: bytes.Repeat([]byte{0xC3}, 32)}},
		Points: []dossier.Point{{Number: 1, Stage: 1, Title: "承辦", State: dossier.PointSigned, SignedAt: &at, Comment: "擬辦如說明"},
			{Number: 2, Stage: 2, Title: point, State: dossier.PointOpen, Files: []int{1, 2}}}}
	return PointRow{Waiting: dossier.Waiting{Dossier: d, Point: &d.Points[1], Client: c}, Open: true}
}

var sampleWords = map[dossier.ClaimState]string{dossier.ClaimOut: "等待簽署", dossier.ClaimAttached: "已簽核", dossier.ClaimLeftOut: "您留下不簽", dossier.ClaimVoid: "沒有完成"}

func samplePointsOrder(state order.State, first, second dossier.ClaimState, waits string) sample {
	v := sampleView(order.Sign, 4)
	v.Asked.Text = "簽核 2 件公文的 2 個簽核點\n擬如擬"
	for _, i := range []int{1, 3} {
		v.Asked.Documents[i].Name, v.Asked.Documents[i].Form = "簽核點 2 科長｜示資字第1150000123號｜檢送計畫一份", "raw"
	}
	word := map[order.State]string{order.Completed: "signed", order.Rejected: "failed", order.Expired: "failed"}[state]
	if word == "" {
		word = "pending"
	}
	words := []string{word, word, word, word}
	if second == dossier.ClaimLeftOut {
		words[2], words[3] = "left_out", "left_out"
	}
	st := sampleState(v, state)
	st.WaitReason, st.Documents = waits, sampleDocuments(v, words...)
	d := PointsOrderData{Order: orderSample(v, st, false).data.(OrderData)}
	rows := documentRows(v, st.Documents)
	for i, claim := range []dossier.ClaimState{first, second} {
		why := map[dossier.ClaimState]string{dossier.ClaimLeftOut: "簽核時留下了這個簽核點的文件沒有簽。 請再簽一次，並簽署它的全部文件。", dossier.ClaimVoid: "這次簽署沒有完成。 請再簽一次。"}[claim]
		d.Points = append(d.Points, ProgressRow{Key: pointValue(dossier.ID(v.ID), i+1), State: claim, Word: sampleWords[claim], Why: why, Title: "檢送計畫一份，請查照。",
			Reference: "示資字第1150000123號", Deputy: i == 1, Documents: rows[2*i : 2*i+2]})
	}
	return sample{page: "pages/documents-order", data: d}
}
