// An emulated libcuda.so.1: devices of host memory whose streams run late, on threads of their own.
//
// It proves order, lifetimes and calls, and nothing about speed or numbers. What is found wrong is
// written to EMULATED_GPU_LOG, a line each:
//  - memory that two pieces of work touch, one of them writing, without a stream, an event or a wait
//    of the host that orders them, whether or not they met this time (vector clocks);
//  - host memory that is changed while a copy from or to it is in flight, or is not page-locked;
//  - a call with no context, the context of another device, or one that was released;
//  - what is left when a primary context is released, or when the process ends in order.
// What is written to is poisoned first, 0xEE: host memory when its copy-out is queued, device memory
// when it is allocated and when work on it begins.
//
// Environment: EMULATED_GPUS, their number (1); EMULATED_GPU_NAMES, by commas;
// EMULATED_GPU_LATE_US, mean microseconds before each piece of work (200); EMULATED_GPU_COMPUTE_US,
// those that a launch takes at least (0); EMULATED_GPU_SLOW=DEVICE:FACTOR, of both;
// EMULATED_GPU_FAIL=DEVICE:N, the launch of a device that fails, from 1, with all that comes after;
// EMULATED_GPU_MEMORY and EMULATED_GPU_PINNED, bytes that are free on all devices, and to be locked.

#include <cuda.h>
#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::map<int, long>;  // how far each stream has got, by its number
using Lock = std::unique_lock<std::mutex>;
constexpr unsigned char POISON = 0xEE;

struct Mark {  // a recorded event: a point in a stream
  Clock clock;
  double ms = 0;
  bool reached = false;
};

struct Access {
  long index;
  bool wrote;
  const char* what;
};

struct Memory {
  size_t size;
  int device;
  std::map<std::pair<int, bool>, Access> touched;  // the last of each stream, by whether it wrote
};

struct Stream {
  int number, device;
  long queued = 0, done = 0;
  Clock clock;
  std::deque<std::function<void()>> work;
  bool closing = false;
};

struct Event {
  int device;
  std::shared_ptr<Mark> mark;
};

struct Device {
  std::string name;
  double slow = 1;
  long fails_at = 0, launches = 0;
  int references = 0;
  CUresult broken = CUDA_SUCCESS;
};

struct Machine {  // on the heap and never freed: its threads outlive every destructor
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Device> devices;
  std::map<uintptr_t, Memory> memory, pinned;
  std::set<Stream*> streams;
  std::set<Event*> events;
  Clock host;  // what the host has waited for
  int numbers = 0;
  size_t allocated = 0, locked = 0, memory_bytes, pinned_bytes;
  double late_us, compute_us;
  FILE* log = nullptr;
};

std::string env(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

Machine* made() {
  auto* m = new Machine;
  m->devices.resize(std::stoi(env("EMULATED_GPUS", "1")));
  std::stringstream names(env("EMULATED_GPU_NAMES", ""));
  for (auto& device : m->devices) {
    if (!std::getline(names, device.name, ',')) device.name = "Emulated GPU";
  }
  int device;
  double factor;
  long number;
  if (std::sscanf(env("EMULATED_GPU_SLOW", "").c_str(), "%d:%lf", &device, &factor) == 2)
    m->devices.at(device).slow = factor;
  if (std::sscanf(env("EMULATED_GPU_FAIL", "").c_str(), "%d:%ld", &device, &number) == 2)
    m->devices.at(device).fails_at = number;
  m->late_us = std::stod(env("EMULATED_GPU_LATE_US", "200"));
  m->compute_us = std::stod(env("EMULATED_GPU_COMPUTE_US", "0"));
  m->memory_bytes = std::stoull(env("EMULATED_GPU_MEMORY", "8589934592"));
  m->pinned_bytes = std::stoull(env("EMULATED_GPU_PINNED", "8589934592"));
  const std::string log = env("EMULATED_GPU_LOG", "");
  if (!log.empty()) m->log = std::fopen(log.c_str(), "a");
  return m;
}

Machine& machine() {
  static Machine* one = made();
  return *one;
}

// Devices whose primary contexts are on this thread's stack; never freed, as pycuda calls late.
thread_local std::vector<int>& current = *new std::vector<int>;

void found(const char* format, ...) {
  va_list values;
  va_start(values, format);
  FILE* log = machine().log ? machine().log : stderr;
  std::fputs("[emulated] ", log);
  std::vfprintf(log, format, values);
  std::fputs("\n", log);
  std::fflush(log);
  va_end(values);
}

double now_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

CUcontext handle_of(int device) { return reinterpret_cast<CUcontext>(0x1000 + 0x10 * device); }

int device_of(CUcontext context) {
  const auto number = (reinterpret_cast<intptr_t>(context) - 0x1000) / 0x10;
  return number >= 0 && number < (int)machine().devices.size() ? (int)number : -1;
}

// The device whose context is current; with `owner`, that of what the call is about.
CUresult entered(const char* call, int owner = -1) {
  if (current.empty()) {
    found("%s without a context", call);
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  const int device = current.back();
  if (!machine().devices[device].references) {
    found("%s in the released context of device %d", call, device);
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  if (owner >= 0 && owner != device) {
    found("%s of something of device %d while device %d is current", call, owner, device);
    return CUDA_ERROR_INVALID_HANDLE;
  }
  return machine().devices[device].broken;
}

#define ENTER(...)                                                        \
  Lock lock(machine().mutex);                                             \
  if (CUresult refused = entered(__func__, ##__VA_ARGS__)) return refused

void merge(Clock& into, const Clock& other) {
  for (auto& [number, index] : other) into[number] = std::max(into[number], index);
}

Memory* holding(std::map<uintptr_t, Memory>& known, uintptr_t at, size_t size) {
  auto next = known.upper_bound(at);
  if (next == known.begin()) return nullptr;
  auto& [start, memory] = *--next;
  return at + size <= start + memory.size ? &memory : nullptr;
}

bool at_rest(const Memory& memory) {
  for (auto& [key, access] : memory.touched) {
    auto waited = machine().host.find(key.first);
    if (waited == machine().host.end() || waited->second < access.index) return false;
  }
  return true;
}

void run(Stream* stream) {
  Machine& m = machine();
  std::minstd_rand random(stream->number);
  std::exponential_distribution<double> waiting(1);
  const double late_us = m.late_us * m.devices[stream->device].slow;
  Lock lock(m.mutex);
  while (true) {
    m.changed.wait(lock, [&] { return !stream->work.empty() || stream->closing; });
    if (stream->work.empty()) break;
    auto work = std::move(stream->work.front());
    stream->work.pop_front();
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(
        std::min(5.0, waiting(random)) * late_us));
    work();
    lock.lock();
    ++stream->done;
    m.changed.notify_all();
  }
  m.streams.erase(stream);
  delete stream;
}

// Queue work after checking it against all that touches the same memory; the mutex is held.
void queue(Stream* stream, const char* what, const std::vector<Memory*>& read,
           const std::vector<Memory*>& written, std::function<void()> work) {
  Machine& m = machine();
  merge(stream->clock, m.host);
  const long index = ++stream->queued;
  stream->clock[stream->number] = index;
  const Clock& clock = stream->clock;
  auto check = [&](Memory* memory, bool writes) {
    for (auto& [key, access] : memory->touched) {
      auto ordered = clock.find(key.first);
      if ((writes || access.wrote) && (ordered == clock.end() || ordered->second < access.index))
        found("%s touches memory while %s may be in flight", what, access.what);
    }
  };
  for (auto* memory : read) check(memory, false);
  for (auto* memory : written) check(memory, true);
  for (auto* memory : read) memory->touched[{stream->number, false}] = {index, false, what};
  for (auto* memory : written) memory->touched[{stream->number, true}] = {index, true, what};
  stream->work.push_back(std::move(work));
  m.changed.notify_all();
}

bool is_poison(const void* at, size_t size) {
  auto* bytes = static_cast<const unsigned char*>(at);
  return !size || (bytes[0] == POISON && !std::memcmp(bytes, bytes + 1, size - 1));
}

uint64_t sum_of(const void* at, size_t size) {  // FNV-1a
  uint64_t sum = 1469598103934665603ull;
  for (size_t n = 0; n < size; ++n) sum = (sum ^ static_cast<const unsigned char*>(at)[n]) * 1099511628211ull;
  return sum;
}

bool works(int device) {
  Lock lock(machine().mutex);
  return machine().devices[device].broken == CUDA_SUCCESS;
}

CUresult wait_for(Lock& lock, const std::function<bool()>& reached) {
  machine().changed.wait(lock, reached);
  return machine().devices[current.back()].broken;
}

__attribute__((destructor)) void at_exit() {
  Machine& m = machine();
  for (size_t n = 0; n < m.devices.size(); ++n) {
    if (m.devices[n].references) found("context of device %zu was not released", n);
  }
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned) { return machine().devices.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  *count = (int)machine().devices.size();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= (int)machine().devices.size()) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
  std::snprintf(name, size, "%s", machine().devices.at(device).name.c_str());
  return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
  *major = 8, *minor = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = (size_t)8 << 30;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 108
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8
                                                                       : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  Lock lock(machine().mutex);
  ++machine().devices.at(device).references;
  *context = handle_of(device);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  Lock lock(machine().mutex);
  Machine& m = machine();
  if (!m.devices.at(device).references) return CUDA_ERROR_INVALID_CONTEXT;
  if (--m.devices[device].references) return CUDA_SUCCESS;
  size_t buffers = 0, pinned = 0, streams = 0, events = 0;
  for (auto& [at, memory] : m.memory) buffers += memory.device == device;
  for (auto& [at, memory] : m.pinned) pinned += memory.device == device;
  for (auto* stream : m.streams) streams += stream->device == device && !stream->closing;
  for (auto* event : m.events) events += event->device == device;
  // What an error's traceback holds of a run that failed goes later.
  for (auto& each : m.devices) {
    if (each.broken) return CUDA_SUCCESS;
  }
  if (buffers + pinned + streams + events)
    found("context of device %d released with %zu device buffers, %zu page-locked, %zu streams, "
          "%zu events", device, buffers, pinned, streams, events);
  return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext) {
  found("cuCtxDetach, which a driver refuses for a primary context");
  return CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  const int device = device_of(context);
  if (device < 0) return CUDA_ERROR_INVALID_CONTEXT;
  current.push_back(device);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext* context) {
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = handle_of(current.back());
  current.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  ENTER();
  *device = current.back();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext, unsigned* version) {
  *version = 3020;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
  ENTER();
  const int device = current.back();
  return wait_for(lock, [device] {
    for (auto* stream : machine().streams)
      if (stream->device == device && stream->done < stream->queued) return false;
    return true;
  });
}

CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
  ENTER();
  Machine& m = machine();
  void* at;
  if (m.allocated + size > m.memory_bytes || posix_memalign(&at, 256, size))
    return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(at, POISON, size);
  m.allocated += size;
  *address = reinterpret_cast<CUdeviceptr>(at);
  m.memory[*address] = {size, current.back(), {}};
  return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
  Lock lock(machine().mutex);
  Machine& m = machine();
  auto known = m.memory.find(address);
  if (known == m.memory.end()) return CUDA_ERROR_INVALID_VALUE;
  const CUresult state = entered(__func__, known->second.device);
  if (state == CUDA_SUCCESS && !at_rest(known->second)) found("cuMemFree of memory in flight");
  m.allocated -= known->second.size;
  m.memory.erase(known);
  // What is in flight all the same may go on in it: such memory is not given back.
  if (state == CUDA_SUCCESS) std::free(reinterpret_cast<void*>(address));
  return state;
}

CUresult cuMemHostAlloc(void** address, size_t size, unsigned) {
  ENTER();
  Machine& m = machine();
  if (m.locked + size > m.pinned_bytes || posix_memalign(address, 4096, size))
    return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(*address, POISON, size);
  m.locked += size;
  m.pinned[reinterpret_cast<uintptr_t>(*address)] = {size, current.back(), {}};
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* address) {
  Lock lock(machine().mutex);
  Machine& m = machine();
  auto known = m.pinned.find(reinterpret_cast<uintptr_t>(address));
  if (known == m.pinned.end()) return CUDA_ERROR_INVALID_VALUE;
  const CUresult state = entered(__func__);
  if (state == CUDA_SUCCESS && !at_rest(known->second)) found("cuMemFreeHost of memory in flight");
  m.locked -= known->second.size;
  m.pinned.erase(known);
  if (state == CUDA_SUCCESS) std::free(address);
  return state;
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  ENTER();
  if (flags != CU_STREAM_NON_BLOCKING) found("a stream that waits for the default stream");
  auto* made = new Stream{machine().numbers++, current.back()};
  machine().streams.insert(made);
  std::thread(run, made).detach();
  *stream = reinterpret_cast<CUstream>(made);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream) {
  Lock lock(machine().mutex);
  auto* one = reinterpret_cast<Stream*>(stream);
  const CUresult state = entered(__func__, one->device);
  one->closing = true;
  machine().changed.notify_all();
  return state;
}

CUresult cuStreamSynchronize(CUstream stream) {
  auto* one = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  const long queued = one->queued;
  const Clock clock = one->clock;
  const CUresult state = wait_for(lock, [=] { return one->done >= queued; });
  merge(machine().host, clock);
  return state;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  auto* one = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  auto mark = reinterpret_cast<Event*>(event)->mark;
  if (!mark) return CUDA_SUCCESS;  // one that was never recorded is not waited for
  merge(one->clock, mark->clock);
  queue(one, "wait", {}, {}, [mark] {
    Lock lock(machine().mutex);
    machine().changed.wait(lock, [&] { return mark->reached; });
  });
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  ENTER();
  if (flags != CU_EVENT_BLOCKING_SYNC) found("an event whose waiter spins, or without timing");
  auto* made = new Event{current.back(), nullptr};
  machine().events.insert(made);
  *event = reinterpret_cast<CUevent>(made);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  Lock lock(machine().mutex);
  auto* one = reinterpret_cast<Event*>(event);
  const CUresult state = entered(__func__, one->device);
  machine().events.erase(one);
  delete one;
  return state;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  auto* one = reinterpret_cast<Event*>(event);
  auto* where = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  if (one->device != where->device) return CUDA_ERROR_INVALID_HANDLE;
  auto mark = one->mark = std::make_shared<Mark>();
  queue(where, "record", {}, {}, [mark] {
    Lock lock(machine().mutex);
    mark->ms = now_ms();
    mark->reached = true;
    machine().changed.notify_all();
  });
  mark->clock = where->clock;
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
  auto* one = reinterpret_cast<Event*>(event);
  ENTER(one->device);
  auto mark = one->mark;
  if (!mark) return CUDA_SUCCESS;
  const CUresult state = wait_for(lock, [mark] { return mark->reached; });
  merge(machine().host, mark->clock);
  return state;
}

CUresult cuEventQuery(CUevent event) {
  auto* one = reinterpret_cast<Event*>(event);
  ENTER(one->device);
  if (!one->mark) return CUDA_SUCCESS;
  if (!one->mark->reached) return CUDA_ERROR_NOT_READY;
  merge(machine().host, one->mark->clock);
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float* ms, CUevent begin, CUevent end) {
  auto from = reinterpret_cast<Event*>(begin)->mark, to = reinterpret_cast<Event*>(end)->mark;
  ENTER();
  if (!from || !to) return CUDA_ERROR_INVALID_HANDLE;
  if (!from->reached || !to->reached) return CUDA_ERROR_NOT_READY;
  *ms = (float)(to->ms - from->ms);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream stream) {
  auto* one = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  Machine& m = machine();
  auto* target = holding(m.memory, to, size);
  auto* source = holding(m.pinned, reinterpret_cast<uintptr_t>(from), size);
  if (!target || target->device != one->device) return CUDA_ERROR_INVALID_VALUE;
  if (!source) {
    found("copy-in from memory that is not page-locked");
    return CUDA_ERROR_INVALID_VALUE;
  }
  const uint64_t sum = sum_of(from, size);
  const int device = one->device;
  queue(one, "copy-in", {source}, {target}, [=] {
    if (!works(device)) return;
    auto* bytes = reinterpret_cast<void*>(to);
    std::memset(bytes, POISON, size);
    std::this_thread::yield();
    std::memcpy(bytes, from, size);
    if (sum_of(bytes, size) != sum) found("the source of a copy-in was changed in flight");
  });
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream stream) {
  auto* one = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  Machine& m = machine();
  auto* source = holding(m.memory, from, size);
  auto* target = holding(m.pinned, reinterpret_cast<uintptr_t>(to), size);
  if (!source || source->device != one->device) return CUDA_ERROR_INVALID_VALUE;
  if (!target) {
    found("copy-out to memory that is not page-locked");
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::memset(to, POISON, size);
  const int device = one->device;
  queue(one, "copy-out", {source}, {target}, [=] {
    if (!works(device)) return;
    if (!is_poison(to, size)) found("the target of a copy-out was changed in flight");
    std::memcpy(to, reinterpret_cast<void*>(from), size);
  });
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = error == CUDA_ERROR_OUT_OF_MEMORY     ? "out of memory"
          : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
          : error == CUDA_ERROR_NO_DEVICE       ? "no CUDA-capable device is detected"
                                                : "emulated error";
  return CUDA_SUCCESS;
}

// What a library queues that computes on the device: `kernel(argument)` reads and writes whole
// buffers of it. Not of CUDA; TensorRT's part calls it.
CUresult emulated_launch(CUstream stream, void (*kernel)(void*), void* argument,
                         const CUdeviceptr* read, int reads, const CUdeviceptr* written, int writes) {
  auto* one = reinterpret_cast<Stream*>(stream);
  ENTER(one->device);
  Machine& m = machine();
  std::vector<Memory*> in, out;
  std::vector<std::pair<void*, size_t>> targets;
  for (int n = 0; n < reads + writes; ++n) {
    const CUdeviceptr address = n < reads ? read[n] : written[n - reads];
    auto known = m.memory.find(address);
    if (known == m.memory.end() || known->second.device != one->device)
      return CUDA_ERROR_INVALID_VALUE;
    (n < reads ? in : out).push_back(&known->second);
    if (n >= reads) targets.push_back({reinterpret_cast<void*>(address), known->second.size});
  }
  const int device = one->device;
  queue(one, "inference", in, out, [=] {
    Machine& m = machine();
    {
      Lock lock(m.mutex);
      Device& on = m.devices[device];
      if (++on.launches == on.fails_at) on.broken = CUDA_ERROR_ILLEGAL_ADDRESS;
      if (on.broken) return;
    }
    const double begin = now_ms();
    for (auto& [at, size] : targets) std::memset(at, POISON, size);
    kernel(argument);
    const double factor = m.devices[device].slow;
    const double left_ms = std::max(m.compute_us / 1e3, now_ms() - begin) * factor - (now_ms() - begin);
    if (left_ms > 0) std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(left_ms));
  });
  return CUDA_SUCCESS;
}

}  // extern "C"
