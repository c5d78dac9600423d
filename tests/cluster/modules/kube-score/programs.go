//go:build programs

// Package programs names the command that checks the manifests.
package programs

import _ "github.com/zegl/kube-score/cmd/kube-score"
