// Package resdet detects objects in images: Faster R-CNN (Ren et al. 2015) on
// a ResNet (He et al. 2015) or VGG-16 backbone, with torchvision's arithmetic,
// fast on a CPU.
//
//	image ─transform▶ pixels ─stage 1▶ features, RPN outputs       device
//	                          ─rpn▶ proposals                      host
//	                          ─stage 2▶ class logits, box deltas   device
//	                          ─roihead▶ detections in original pixels
//
// Open a model file, or the default model that is built in, and detect:
//
//	d, err := resdet.OpenDefault(resdet.Options{})
//	…
//	defer d.Close()
//	dets, err := d.Detect(ctx, img)
package resdet
