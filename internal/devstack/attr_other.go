//go:build !linux

package devstack

import "syscall"

// childAttr cannot tie the child to its parent's life here; Stop does.
func childAttr(_ syscall.Signal, as *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attr
}
