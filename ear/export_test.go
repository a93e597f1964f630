package ear

// Claims reads claims as Read does once it knows who signed them.
func (r *Reader) Claims(payload []byte, want Want) (*EAR, error) {
	e, err := r.decode(payload)
	if err == nil {
		err = r.check(e, want)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}
