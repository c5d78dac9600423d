//go:build programs

// Package programs names the operator that reads the monitoring component.
package programs

import _ "github.com/prometheus-operator/prometheus-operator/cmd/operator"
