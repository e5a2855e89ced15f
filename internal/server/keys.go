package server

import (
	"log/slog"

	"sealgate/internal/config"
	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
)

// OpenKeyring makes the keyring that the configuration describes: its master
// keys, and its token where it has one. With create, a missing master key file
// is made. The token is reached at its first use, so that a node starts while
// it is away. The function it returns lets go of the token.
func OpenKeyring(cfg config.Config, store keyring.Store, create bool, log *slog.Logger) (*keyring.Keyring, func(), error) {
	current, err := keyring.LoadMasterKey(cfg.MasterKeyFile, create)
	if err != nil {
		return nil, nil, err
	}
	masters := []*keyring.MasterKey{current}
	for _, path := range cfg.OtherMasterKeyFiles {
		other, err := keyring.LoadMasterKey(path, false)
		if err != nil {
			return nil, nil, err
		}
		masters = append(masters, other)
	}
	kc := keyring.Config{Store: store, MasterKeys: masters, TokenPurposes: cfg.HSM.Purposes}
	closeToken := func() {}
	if h := cfg.HSM; h.Module != "" {
		token, err := hsm.New(hsm.Config{Module: h.Module, TokenLabel: h.TokenLabel, PINFile: h.PINFile,
			MaxSessions: h.MaxSessions, SessionWait: h.SessionWait, AnswerTimeout: h.AnswerTimeout, Log: log})
		if err != nil {
			return nil, nil, err
		}
		kc.Token, closeToken = token, token.Close
	}
	keys, err := keyring.New(kc)
	if err != nil {
		closeToken()
		return nil, nil, err
	}
	return keys, closeToken, nil
}
