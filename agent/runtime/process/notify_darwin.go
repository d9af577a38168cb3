package process

// notifySocket does not exist here: Type=notify is refused (see supported).
type notifySocket struct{}

func (u *unit) notifyAddress() string { return "" }
func (u *unit) listen() error         { return nil }
func (u *unit) hush()                 {}
func (u *unit) speaks(id) bool        { return false }
