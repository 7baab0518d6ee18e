"""Which rows of the published tables count, and for which profile."""

from pathlib import Path

from published_tables import PROFILES, Published, nasbench, published

from fieldtune.profiles.device.load import profile_names

LATENCIES = """source,device,soc,threads,clock_mhz,runtime,precision,model,ms,stat,memory_mb,note
xnnpack-readme-2022,raspberry-pi-4b,,4,,XNNPACK,fp32,mobilenet-v2-1.0-224,46,mean,,
xnnpack-readme-2022,raspberry-pi-4b-armv7,,4,,XNNPACK,fp32,mobilenet-v2-1.0-224,60,mean,,
netspresso-trainer,raspberry-pi-5,,not said (4 fits),,TFLite,fp16,resnet18,50,mean,,
ncnn,raspberry-pi-5,,4,,ncnn,fp32,resnet18,30,min,,
"""
MLPERF = """source,division,system,device,soc,threads,clock_mhz,runtime,precision,model,p50_ms
mlperf-inference-v1.0,open,,raspberry-pi-4b,,4,,tflite-ruy v2.4.1,int8,resnet50,100
mlperf-inference-v1.1,open,,raspberry-pi-4b,,4,,tflite-ruy v2.5.0,int8,resnet50,120
mlperf-inference-v1.1,open,,raspberry-pi-4b,,4,,armnn-neon v21.05,int8,resnet50,80
"""


def test_rows_of_boards_with_a_profile_count_once_a_source(tmp_path: Path) -> None:
    (tmp_path / "measurements.csv").write_text(LATENCIES)
    (tmp_path / "mlperf_arm.csv").write_text(MLPERF)
    pi4, pi5 = "raspberry-pi-4b", "raspberry-pi-5"
    assert published(tmp_path) == [
        Published(pi4, "xnnpack-readme-2022", "mobilenet-v2-1.0-224", "fp32", 4, "xnnpack", 46.0),
        Published(pi5, "netspresso-trainer", "resnet18", "fp16", 4, "xnnpack", 50.0),
        Published(pi4, "mlperf-inference", "resnet50", "int8", 4, "plain", 110.0),
    ]
    assert published(tmp_path)[1].file == "resnet18.fp32"
    assert set(PROFILES.values()) <= set(profile_names())


def test_only_cells_whose_graph_is_known_are_ranked(tmp_path: Path) -> None:
    rows = "index,cell,clean,raspi4_ms\n0,p1s1ss,1,10.5\n1,nnnnnn,0,3\n"
    (tmp_path / "nasbench201_cifar10.csv").write_text(rows)
    assert nasbench(tmp_path) == [("p1s1ss", 10.5)]
