// Package tencent runs Tencent's own Go clients, unmodified but for the address
// they reach and the keys they sign with, against the local servers that this
// project tests its providers with. What the servers verify and the clients
// insist on, both from the same documents, is so held against each other.
//
// It is a module of its own: the clients are no dependency of the project.
package tencent
