//go:build programs

// Package programs names the command that checks the manifests.
package programs

import _ "helm.sh/helm/v3/cmd/helm"
