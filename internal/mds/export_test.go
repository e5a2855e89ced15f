package mds

// Parse lets the fuzz target reach what lies behind the signature.
var Parse = parse
