// Package deploy has no code: its tests hold the files of this folder against
// what they describe. The chart renders into objects of Kubernetes, dashboard
// and autoscaler name metrics that the server exposes, the unit and the compose
// file are well-formed, and, where RESDET_THOROUGH is set, the image's steps run
// in a Debian of their own.
package deploy
