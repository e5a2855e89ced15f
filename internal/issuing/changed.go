package issuing

// Changed says that the state of a certificate was changed in the register by
// another package's transaction: the next revocation list is made anew.
func (ca *CA) Changed() {
	ca.mu.Lock()
	clear(ca.lists)
	ca.mu.Unlock()
}
