// Package signing makes the signatures that a citizen has approved.
//
// The road from an approval to a signature has one gate. Authorize takes the
// kept evidence of an approval, verifies the WebAuthn assertion again over
// exactly the content and the documents left in, and gives an Authorization;
// nothing else can make one. Service.Complete turns it into one CAdES-B-B
// signature a document and stores them, the consumed authorization and the
// completed order in one transaction: either all of it is there, once, or none.
package signing
