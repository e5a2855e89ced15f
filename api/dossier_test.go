package api_test

import (
	"time"

	"sealgate/cmd/sealctl/softphone"
)

// dossiers walks official documents: submitted, taken, signed, passed, returned,
// submitted again, withdrawn.
func (r *road) dossiers() {
	sub := r.subject()
	route := []map[string]any{
		{"stage": 1, "title": "承辦人", "subject": sub},
		{"stage": 2, "title": "科長", "subject": sub, "files": []int{2}},
	}
	body := map[string]any{"reference": "測字第1號", "title": "檢送計畫書", "files": newDocuments(2), "points": route}
	made := r.rest(201, "POST", "/api/v1/dossiers", body)
	path := "/api/v1/dossiers/" + made["dossier"].(string)
	r.rest(409, "POST", "/api/v1/dossiers", body)
	r.rest(200, "GET", path, nil)
	r.rest(200, "GET", "/api/v1/dossiers?limit=1&state=open", nil)
	r.rest(400, "GET", "/api/v1/dossiers?cursor=x", nil)
	r.rest(409, "GET", path+"/points/1/signature", nil)
	r.rest(404, "GET", "/api/v1/dossiers/AAAAAAAAAAAAAAAAAAAAAA", nil)
	r.rest(409, "POST", path+"/points/2/order", map[string]any{})
	r.signPoint(r.rest(201, "POST", path+"/points/1/order", map[string]any{"comment": "擬陳核"}))
	r.follow(path, "point 1 is signed", func(d map[string]any) bool { return r.pointOf(d, 1)["state"] == "signed" })
	r.rest(200, "GET", path+"/si", nil)
	r.rest(200, "GET", path+"/points/1/signature", nil)
	r.rest(200, "GET", path+"/points/1/files/1/signature", nil)
	r.rest(404, "GET", path+"/points/1/files/9/signature", nil)
	r.rest(200, "POST", path+"/points/2/later", map[string]any{"reason": "公出"})
	r.signPoint(r.rest(201, "POST", "/api/v1/dossier-orders", map[string]any{"subject": sub, "points": []map[string]any{{"dossier": made["dossier"], "point": 2}}}))
	r.follow(path, "completed", func(d map[string]any) bool { return d["state"] == "completed" })

	body["reference"] = "測字第2號"
	deputy := map[string]any{"subject": r.other(), "reason": "公出", "not_before": time.Now(), "not_after": time.Now().Add(time.Hour)}
	route[0]["deputies"] = []map[string]any{deputy}
	made = r.rest(201, "POST", "/api/v1/dossiers", body)
	path = "/api/v1/dossiers/" + made["dossier"].(string)
	r.rest(400, "POST", path+"/points/1/deputies", deputy)
	r.rest(200, "POST", path+"/points/2/deputies", deputy)
	r.signPoint(r.rest(201, "POST", path+"/points/1/order", map[string]any{"decision": "return", "comment": "重擬"}))
	r.follow(path, "returned", func(d map[string]any) bool { return d["state"] == "returned" })
	delete(body, "reference")
	made = r.rest(201, "POST", path+"/resubmit", body)
	r.rest(409, "POST", path+"/resubmit", body)
	r.rest(200, "POST", "/api/v1/dossiers/"+made["dossier"].(string)+"/withdraw", map[string]any{"reason": "改以紙本"})
}

func (r *road) pointOf(d map[string]any, n int) map[string]any {
	return d["points"].([]any)[n-1].(map[string]any)
}

// subject is how the client knows the phone's holder.
func (r *road) subject() string {
	made := r.rest(201, "POST", "/api/v1/sign-orders", map[string]any{"documents": newDocuments(1)})
	return r.signPoint(made)["approval"].(map[string]any)["sub"].(string)
}

// other is a second person.
func (r *road) other() string {
	mine := r.phone
	defer func() { r.phone = mine }()
	r.phone = softphone.New(softphone.Config{Server: r.box.Origin, HTTP: r.http})
	_, err := r.enrolment(2).Run(r.ctx)
	r.must(err)
	return r.subject()
}

// signPoint approves an order and waits for its signatures.
func (r *road) signPoint(made map[string]any) map[string]any {
	r.Helper()
	desk := r.browser()
	id, err := desk.Open(r.ctx, made["start_url"].(string))
	r.must(err)
	_, err = r.phone.Approve(r.ctx, r.scan(desk, id))
	r.must(err)
	_, err = desk.WaitFor(r.ctx, id, "completed")
	r.must(err)
	return r.rest(200, "GET", "/api/v1/sign-orders/"+id, nil)
}

func (r *road) follow(path, what string, until func(map[string]any) bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if until(r.rest(200, "GET", path, nil)) {
			return
		}
	}
	r.Fatalf("%s: never %s", path, what)
}
