package fetch

import (
	"path"
	"slices"
	"strings"
)

// Table lists the published files, by owner. Where checksums are given they
// were read at the places named; a file without one is unverified, and pinned
// at its first download.
var Table = slices.Concat(torchvision, timm, detectron2, detectron, caffe, jwyang, mmdetection)

// Where things were read. torchvision 0.14's sources are those of Debian's
// python3-torchvision 0.14.1-2 too.
const (
	readTorchHub  = "https://github.com/pytorch/pytorch/blob/v1.13.1/torch/hub.py (HASH_REGEX: a file's name ends with the first digits of its SHA-256)"
	readResNet    = "https://github.com/pytorch/vision/blob/v0.14.1/torchvision/models/resnet.py"
	readVGG       = "https://github.com/pytorch/vision/blob/v0.14.1/torchvision/models/vgg.py"
	readFaster    = "https://github.com/pytorch/vision/blob/v0.14.1/torchvision/models/detection/faster_rcnn.py"
	readZoo2      = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md (also: a file's name ends with the first digits of its MD5)"
	readZoo2URLs  = "https://github.com/facebookresearch/detectron2/blob/main/detectron2/model_zoo/model_zoo.py"
	readZoo1      = "https://github.com/facebookresearch/Detectron/blob/main/MODEL_ZOO.md"
	readJwyang    = "https://github.com/jwyang/faster-rcnn.pytorch/blob/master/README.md (its links end with dl=0, Dropbox's page; dl=1 is the file)"
	readMetafile  = "https://github.com/open-mmlab/mmdetection/blob/main/configs/faster_rcnn/metafile.yml"
	readPublish   = "https://github.com/open-mmlab/mmdetection/blob/main/tools/model_converters/publish_model.py (a file's name ends with the first digits of its SHA-256)"
	readOpenCV    = "https://github.com/opencv/opencv_extra/blob/4.x/testdata/dnn/download_models.py"
	readPyScripts = "https://github.com/rbgirshick/py-faster-rcnn/blob/master/data/scripts/fetch_faster_rcnn_models.sh"
	readGist      = "https://gist.github.com/ksimonyan/211839e770f7b538e2d8"
	readTimm      = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py"
	readTimmHub   = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/_hub.py (HF_SAFE_WEIGHTS_NAME)"
)

const (
	imagenet     = "ImageNet-1k"
	coco2017     = "COCO train2017"
	top1         = "ImageNet top-1"
	cocoAP       = "COCO val2017 box AP"
	voc07        = "VOC 2007 test mAP"
	bsd          = "BSD-3-Clause (torchvision); its authors warn that the data may have terms of its own"
	ccBySA       = "CC BY-SA 3.0"
	apache       = "Apache-2.0 (mmdetection)"
	mit          = "MIT"
	torchvision1 = "https://pytorch.org/vision/stable/models.html"
)

// hashed returns the check by the digits that end a file's name:
// "resnet18-f37072fd.pth".
func hashed(address, algorithm, read string) []Check {
	name := strings.TrimSuffix(path.Base(address), path.Ext(address))
	cut := strings.LastIndexAny(name, "-_")
	return []Check{{algorithm, name[cut+1:], read}}
}

// torchvision's files stand in WeightsEnum with their figures.
var torchvision = func() []Published {
	const base = "https://download.pytorch.org/models/"
	list := []Published{
		{Name: "resnet18", Title: "ResNet-18", File: File{URL: base + "resnet18-f37072fd.pth"}, Arch: "resnet18-c4", Score: 69.758},
		{Name: "resnet34", Title: "ResNet-34", File: File{URL: base + "resnet34-b627a593.pth"}, Arch: "resnet34-c4", Score: 73.314},
		{Name: "resnet50", Title: "ResNet-50", File: File{URL: base + "resnet50-0676ba61.pth"}, Arch: "resnet50-c4", Score: 76.130},
		{Name: "resnet50-v2", Title: "ResNet-50, longer training", File: File{URL: base + "resnet50-11ad3fa6.pth"}, Arch: "resnet50-c4", Score: 80.858},
		{Name: "resnet101", Title: "ResNet-101", File: File{URL: base + "resnet101-63fe2227.pth"}, Arch: "resnet101-c4", Score: 77.374},
		{Name: "resnet101-v2", Title: "ResNet-101, longer training", File: File{URL: base + "resnet101-cd907fc2.pth"}, Arch: "resnet101-c4", Score: 81.886},
		{Name: "resnet152", Title: "ResNet-152", File: File{URL: base + "resnet152-394f9c45.pth"}, Arch: "resnet152-c4", Score: 78.312},
		{Name: "resnet152-v2", Title: "ResNet-152, longer training", File: File{URL: base + "resnet152-f82ba261.pth"}, Arch: "resnet152-c4", Score: 82.284},
		{Name: "vgg16", Title: "VGG-16", File: File{URL: base + "vgg16-397923af.pth"}, Arch: "vgg16", Score: 71.592},
		{Name: "fasterrcnn-resnet50-fpn", Title: "Faster R-CNN, ResNet-50 and pyramid", File: File{URL: base + "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"},
			Arch: "resnet50-fpn", Family: "torchvision-coco", Classes: "coco", Metric: cocoAP, Data: coco2017, Score: 37.0, Read: []string{readFaster}},
	}
	for i := range list {
		p := &list[i]
		p.Page, p.License = torchvision1, bsd
		p.Checks = hashed(p.URL, "sha256", readTorchHub)
		if p.Backbone() {
			p.Metric, p.Data, p.Family = top1, imagenet, "torchvision-classifier"
			p.Read = []string{readResNet}
			if p.Arch == "vgg16" {
				p.Read = []string{readVGG}
			}
		}
		p.File.Name = path.Base(p.URL)
	}
	return list
}()

// timm's files on the Hugging Face hub are found by their names in timm.
var timm = func() []Published {
	var list []Published
	for _, m := range []struct {
		depth string
		score float64
	}{{"18", 69.758}, {"34", 73.314}, {"50", 76.130}, {"101", 77.374}, {"152", 78.312}} {
		name := "resnet" + m.depth + ".tv_in1k"
		list = append(list, Published{
			Name: "timm-resnet" + m.depth, Title: "ResNet-" + m.depth + " (torchvision's weights as safetensors)",
			File: File{Name: name + ".safetensors", URL: "https://huggingface.co/timm/" + name + "/resolve/main/model.safetensors"},
			Arch: "resnet" + m.depth + "-c4", Family: "timm", Metric: top1, Score: m.score, Data: imagenet,
			Page: "https://huggingface.co/timm/" + name, License: "BSD-3-Clause", Read: []string{readTimm, readTimmHub, readResNet},
		})
	}
	return list
}()

// detectron2's zoo, as CONFIG_PATH_TO_URL_SUFFIX has it.
var detectron2 = func() []Published {
	const base = "https://dl.fbaipublicfiles.com/detectron2/"
	list := []Published{
		{Name: "detectron2-r50-c4-1x", Title: "Faster R-CNN, ResNet-50 C4, 1x", Arch: "resnet50-c4", Score: 35.7,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_50_C4_1x/137257644/model_final_721ade.pkl"}},
		{Name: "detectron2-r50-c4-3x", Title: "Faster R-CNN, ResNet-50 C4, 3x", Arch: "resnet50-c4", Score: 38.4,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl"}},
		{Name: "detectron2-r50-fpn-1x", Title: "Faster R-CNN, ResNet-50 and pyramid, 1x", Arch: "resnet50-fpn", Score: 37.9,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl"}},
		{Name: "detectron2-r50-fpn-3x", Title: "Faster R-CNN, ResNet-50 and pyramid, 3x", Arch: "resnet50-fpn", Score: 40.2,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"}},
		{Name: "detectron2-r101-c4-3x", Title: "Faster R-CNN, ResNet-101 C4, 3x", Arch: "resnet101-c4", Score: 41.1,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_101_C4_3x/138204752/model_final_298dad.pkl"}},
		{Name: "detectron2-r101-fpn-3x", Title: "Faster R-CNN, ResNet-101 and pyramid, 3x", Arch: "resnet101-fpn", Score: 42.0,
			File: File{URL: base + "COCO-Detection/faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl"}},
		{Name: "detectron2-voc-r50-c4", Title: "Faster R-CNN, ResNet-50 C4, for VOC", Arch: "resnet50-c4", Score: 80.3,
			File:    File{URL: base + "PascalVOC-Detection/faster_rcnn_R_50_C4/142202221/model_final_b1acc2.pkl"},
			Classes: "voc", Data: "VOC 2007 and 2012 trainval", Metric: "VOC 2007 test AP50 (11 points)"},
		{Name: "detectron2-msra-r50", Title: "ResNet-50 of MSRA", Arch: "resnet50-c4", Family: "msra-pkl",
			File: File{URL: base + "ImageNetPretrained/MSRA/R-50.pkl"}, Data: imagenet},
		{Name: "detectron2-msra-r101", Title: "ResNet-101 of MSRA", Arch: "resnet101-c4", Family: "msra-pkl",
			File: File{URL: base + "ImageNetPretrained/MSRA/R-101.pkl"}, Data: imagenet},
	}
	for i := range list {
		p := &list[i]
		p.Page, p.License, p.Read = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md", ccBySA, []string{readZoo2, readZoo2URLs}
		p.File.Name = p.Name + ".pkl"
		if p.Family != "" {
			continue // the backbones' names have no digits
		}
		p.Family, p.Checks = "detectron2", hashed(p.URL, "md5", readZoo2)
		if p.Classes == "" {
			p.Classes, p.Data, p.Metric = "coco", coco2017, cocoAP
		}
	}
	return list
}()

// Detectron's end-to-end baselines of December 2017.
var detectron = func() []Published {
	const (
		base = "https://dl.fbaipublicfiles.com/detectron/"
		tail = "/output/train/coco_2014_train%3Acoco_2014_valminusminival/generalized_rcnn/model_final.pkl"
	)
	list := []Published{
		{Name: "detectron-r50-c4-1x", Title: "Faster R-CNN, ResNet-50 C4, 1x", Arch: "resnet50-c4", Score: 34.8,
			File: File{URL: base + "35857197/12_2017_baselines/e2e_faster_rcnn_R-50-C4_1x.yaml.01_33_49.iAX0mXvW" + tail}},
		{Name: "detectron-r50-c4-2x", Title: "Faster R-CNN, ResNet-50 C4, 2x", Arch: "resnet50-c4", Score: 36.5,
			File: File{URL: base + "35857281/12_2017_baselines/e2e_faster_rcnn_R-50-C4_2x.yaml.01_34_56.ScPH0Z4r" + tail}},
		{Name: "detectron-r50-fpn-1x", Title: "Faster R-CNN, ResNet-50 and pyramid, 1x", Arch: "resnet50-fpn", Score: 36.7,
			File: File{URL: base + "35857345/12_2017_baselines/e2e_faster_rcnn_R-50-FPN_1x.yaml.01_36_30.cUF7QR7I" + tail}},
		{Name: "detectron-r50-fpn-2x", Title: "Faster R-CNN, ResNet-50 and pyramid, 2x", Arch: "resnet50-fpn", Score: 37.9,
			File: File{URL: base + "35857389/12_2017_baselines/e2e_faster_rcnn_R-50-FPN_2x.yaml.01_37_22.KSeq0b5q" + tail}},
		{Name: "detectron-r101-fpn-1x", Title: "Faster R-CNN, ResNet-101 and pyramid, 1x", Arch: "resnet101-fpn", Score: 39.4,
			File: File{URL: base + "35857890/12_2017_baselines/e2e_faster_rcnn_R-101-FPN_1x.yaml.01_38_50.sNxI7sX7" + tail}},
		{Name: "detectron-r101-fpn-2x", Title: "Faster R-CNN, ResNet-101 and pyramid, 2x", Arch: "resnet101-fpn", Score: 39.8,
			File: File{URL: base + "35857952/12_2017_baselines/e2e_faster_rcnn_R-101-FPN_2x.yaml.01_39_49.JPwJDh92" + tail}},
	}
	for i := range list {
		p := &list[i]
		p.Family, p.Classes, p.Data, p.Metric = "detectron", "coco", "COCO 2014 train and valminusminival (train2017)", "COCO minival (val2017) box AP"
		p.Page, p.License, p.Read = "https://github.com/facebookresearch/Detectron/blob/main/MODEL_ZOO.md", ccBySA, []string{readZoo1}
		p.File.Name = p.Name + ".pkl"
	}
	return list
}()

// Models of Caffe.
var caffe = []Published{
	{
		Name: "py-faster-rcnn-vgg16", Title: "py-faster-rcnn's VGG-16 detector, alternating optimisation",
		File: File{
			Name: "faster_rcnn_models.tgz", URL: "https://dl.dropboxusercontent.com/s/o6ii098bu51d139/faster_rcnn_models.tgz?dl=0",
			Checks:       []Check{{"md5", "ac116844f66aefe29587214272054668", readPyScripts}, {"sha1", "51bca62727c3fe5d14b66e9331373c1e297df7d1", readOpenCV}},
			Member:       "faster_rcnn_models/VGG16_faster_rcnn_final.caffemodel",
			MemberChecks: []Check{{"sha1", "dd099979468aafba21f3952718a9ceffc7e57699", readOpenCV}},
		},
		Arch: "vgg16", Family: "caffe-detector", Classes: "voc", Data: "PASCAL VOC 2007",
		Page: "https://github.com/rbgirshick/py-faster-rcnn", License: mit, Read: []string{readOpenCV, readPyScripts},
	},
	{
		Name: "caffe-vgg16", Title: "VGG-16, the ILSVRC 2014 model of its authors",
		File: File{
			Name: "VGG_ILSVRC_16_layers.caffemodel", URL: "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
			Checks: []Check{{"sha1", "9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24", readOpenCV}},
		},
		Arch: "vgg16", Family: "caffe-vgg16", Data: imagenet, Page: "https://www.robots.ox.ac.uk/~vgg/research/very_deep/",
		License: "see https://www.robots.ox.ac.uk/~vgg/research/very_deep/", Read: []string{readGist + " (the address with http)", readOpenCV},
	},
}

// jwyang's detectors are the only public pair of VGG-16 and ResNet-101 that
// one code base trained.
var jwyang = func() []Published {
	const large = `{"transform":{"min_size":800,"max_size":1200}}`
	list := []Published{
		{Name: "jwyang-vgg16-voc07", Title: "Faster R-CNN, VGG-16, batch 1", Arch: "vgg16", Classes: "voc", Score: 70.1,
			File: File{URL: "https://www.dropbox.com/s/6ief4w7qzka6083/faster_rcnn_1_6_10021.pth?dl=1"}},
		{Name: "jwyang-res101-voc07", Title: "Faster R-CNN, ResNet-101, batch 1", Arch: "resnet101-c4", Classes: "voc", Score: 75.2,
			File: File{URL: "https://www.dropbox.com/s/4v3or0054kzl19q/faster_rcnn_1_7_10021.pth?dl=1"}},
		{Name: "jwyang-vgg16-voc07-bs4", Title: "Faster R-CNN, VGG-16, batch 4", Arch: "vgg16", Classes: "voc", Score: 69.6,
			File: File{URL: "https://www.dropbox.com/s/cpj2nu35am0f9hp/faster_rcnn_1_9_2504.pth?dl=1"}},
		{Name: "jwyang-res101-voc07-bs4", Title: "Faster R-CNN, ResNet-101, batch 4", Arch: "resnet101-c4", Classes: "voc", Score: 74.9,
			File: File{URL: "https://www.dropbox.com/s/8bhldrds3mf0yuj/faster_rcnn_1_10_2504.pth?dl=1"}},
		{Name: "jwyang-res101-coco-600", Title: "Faster R-CNN, ResNet-101, 600 pixels, 10 epochs", Arch: "resnet101-c4", Classes: "coco", Score: 34.5,
			File: File{URL: "https://www.dropbox.com/s/dpq6qv0efspelr3/faster_rcnn_1_10_9771.pth?dl=1"}},
		{Name: "jwyang-res101-coco-800", Title: "Faster R-CNN, ResNet-101, 800 pixels, 10 epochs", Arch: "resnet101-c4", Classes: "coco", Score: 37.0,
			File: File{URL: "https://www.dropbox.com/s/be0isevd22eikqb/faster_rcnn_1_10_14657.pth?dl=1"}, Config: large},
		{Name: "jwyang-vgg16-caffe", Title: "VGG-16 of Caffe in torchvision's names", Arch: "vgg16",
			File: File{URL: "https://filebox.ece.vt.edu/~jw2yang/faster-rcnn/pretrained-base-models/vgg16_caffe.pth"}},
		{Name: "jwyang-res101-caffe", Title: "ResNet-101 of Caffe in torchvision's names", Arch: "resnet101-c4",
			File: File{URL: "https://filebox.ece.vt.edu/~jw2yang/faster-rcnn/pretrained-base-models/resnet101_caffe.pth"}},
	}
	for i := range list {
		p := &list[i]
		p.Page, p.License, p.Read = "https://github.com/jwyang/faster-rcnn.pytorch", mit, []string{readJwyang}
		p.File.Name, p.Family = p.Name+".pth", "jwyang"
		switch p.Classes {
		case "voc":
			p.Data, p.Metric = "VOC 2007 trainval", voc07
		case "coco":
			p.Data, p.Metric = "COCO 2014 train and val without minival", "COCO minival box AP"
		default:
			p.Data, p.Family = imagenet, "caffe-pth"
		}
	}
	return list
}()

// mmdetection's 2.x checkpoints, which 3.x publishes too.
var mmdetection = func() []Published {
	const base = "https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/"
	var list []Published
	for _, m := range []struct {
		name, title, folder, file string
		score                     float64
	}{
		{"r50-fpn-1x", "ResNet-50 and pyramid, 1x", "faster_rcnn_r50_fpn_1x_coco", "faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth", 37.4},
		{"r50-fpn-2x", "ResNet-50 and pyramid, 2x", "faster_rcnn_r50_fpn_2x_coco", "faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth", 38.4},
		{"r50-fpn-3x", "ResNet-50 and pyramid, 3x, many scales", "faster_rcnn_r50_fpn_mstrain_3x_coco", "faster_rcnn_r50_fpn_mstrain_3x_coco_20210524_110822-e10bd31c.pth", 40.3},
		{"r50-caffe-fpn-1x", "Caffe's ResNet-50 and pyramid, 1x", "faster_rcnn_r50_caffe_fpn_1x_coco", "faster_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.378_20200504_180032-c5925ee5.pth", 37.8},
		{"r50-caffe-fpn-3x", "Caffe's ResNet-50 and pyramid, 3x, many scales", "faster_rcnn_r50_caffe_fpn_mstrain_3x_coco", "faster_rcnn_r50_caffe_fpn_mstrain_3x_coco_20210526_095054-1f77628b.pth", 39.9},
		{"r101-fpn-1x", "ResNet-101 and pyramid, 1x", "faster_rcnn_r101_fpn_1x_coco", "faster_rcnn_r101_fpn_1x_coco_20200130-f513f705.pth", 39.4},
		{"r101-fpn-2x", "ResNet-101 and pyramid, 2x", "faster_rcnn_r101_fpn_2x_coco", "faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth", 39.8},
		{"r101-fpn-3x", "ResNet-101 and pyramid, 3x, many scales", "faster_rcnn_r101_fpn_mstrain_3x_coco", "faster_rcnn_r101_fpn_mstrain_3x_coco_20210524_110822-4d4d2ca8.pth", 41.8},
		{"r101-caffe-fpn-1x", "Caffe's ResNet-101 and pyramid, 1x", "faster_rcnn_r101_caffe_fpn_1x_coco", "faster_rcnn_r101_caffe_fpn_1x_coco_bbox_mAP-0.398_20200504_180057-b269e9dd.pth", 39.8},
		{"r101-caffe-fpn-3x", "Caffe's ResNet-101 and pyramid, 3x, many scales", "faster_rcnn_r101_caffe_fpn_mstrain_3x_coco", "faster_rcnn_r101_caffe_fpn_mstrain_3x_coco_20210526_095742-a7ae426d.pth", 42.0},
	} {
		p := Published{
			Name: "mmdetection-" + m.name, Title: "Faster R-CNN, " + m.title,
			File: File{Name: m.file, URL: base + m.folder + "/" + m.file},
			Arch: "resnet50-fpn", Family: "mmdetection", Classes: "coco", Metric: cocoAP, Score: m.score, Data: coco2017,
			Page: "https://github.com/open-mmlab/mmdetection/tree/main/configs/faster_rcnn", License: apache, Read: []string{readMetafile},
		}
		if strings.Contains(m.name, "r101") {
			p.Arch = "resnet101-fpn"
		}
		if strings.Contains(m.name, "caffe") {
			p.Family = "mmdetection-caffe"
		}
		p.Checks = hashed(p.URL, "sha256", readPublish)
		list = append(list, p)
	}
	return list
}()
