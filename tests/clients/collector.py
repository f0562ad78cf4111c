"""An independent OTLP collector: grpcio and OpenTelemetry's own protobuf classes for Python.

Reads an order from standard input, one line of JSON: {"seconds": N, "rejects": N}. It rejects that many records of each request. Prints
one line, {"grpc": PORT, "http": PORT}, receives for N seconds or until its input ends, and prints what it got, decoded, as one line of
JSON.
"""

import concurrent.futures
import http.server
import json
import sys
import threading

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

got = {"traces": [], "metrics": [], "logs": [], "headers": []}
lock = threading.Lock()
rejects = 0


def keep(signal, request, headers):
    with lock:
        # Metrics are cumulative: the last export says it all.
        if signal == "metrics":
            got[signal].clear()
        got[signal].append(MessageToDict(request, preserving_proto_field_name=True))
        got["headers"].append(headers.get("authorization", ""))


def answer(response):
    # Each signal names this field differently.
    if rejects:
        field = next(f.name for f in response().partial_success.DESCRIPTOR.fields if f.name.startswith("rejected"))
        return response(partial_success={field: rejects, "error_message": "there is no room"})
    return response()


def servicer(base, signal, response):
    class Servicer(base):
        def Export(self, request, context):
            keep(signal, request, dict(context.invocation_metadata()))
            return answer(response)

    return Servicer()


server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
    servicer(trace_service_pb2_grpc.TraceServiceServicer, "traces", trace_service_pb2.ExportTraceServiceResponse), server)
metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
    servicer(metrics_service_pb2_grpc.MetricsServiceServicer, "metrics", metrics_service_pb2.ExportMetricsServiceResponse), server)
logs_service_pb2_grpc.add_LogsServiceServicer_to_server(
    servicer(logs_service_pb2_grpc.LogsServiceServicer, "logs", logs_service_pb2.ExportLogsServiceResponse), server)
grpc_port = server.add_insecure_port("127.0.0.1:0")
server.start()

REQUESTS = {
    "/v1/traces": ("traces", trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "/v1/metrics": ("metrics", metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    "/v1/logs": ("logs", logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        known = REQUESTS.get(self.path)
        if known is None or self.headers["content-type"] != "application/x-protobuf":
            self.send_error(404)
            return
        signal, kind, response = known
        keep(signal, kind.FromString(body), {"authorization": self.headers.get("authorization", "")})
        said = answer(response).SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=web.serve_forever, daemon=True).start()

order = json.loads(sys.stdin.readline())
rejects = order.get("rejects", 0)
print(json.dumps({"grpc": grpc_port, "http": web.server_port}), flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
over.wait(order["seconds"])
server.stop(1).wait()
with lock:
    print(json.dumps(got), flush=True)
