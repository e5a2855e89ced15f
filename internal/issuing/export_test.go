package issuing

// Config gives tests what a CA was made with.
func (ca *CA) Config() Config { return ca.cfg }
