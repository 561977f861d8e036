// SPDX-License-Identifier: Apache-2.0
//
// A threaded C++ program of strings, maps and vectors:
//
//     threads COUNT RECORDS
//
// Half of the threads make text records in batches, the other half take, parse and sum
// them up, so most blocks are freed by another thread than made them. The records, and
// so the allocations, do not depend on who takes which.
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using Batch = std::vector<std::string>;

class Queue
{
  public:
    void put(std::unique_ptr<Batch> batch)
    {
        std::unique_lock<std::mutex> held(mutex_);
        room_.wait(held, [this] { return batches_.size() < 64; });
        batches_.push_back(std::move(batch));
        some_.notify_one();
    }

    // Null when all is taken and nothing more comes.
    std::unique_ptr<Batch> take()
    {
        std::unique_lock<std::mutex> held(mutex_);
        some_.wait(held, [this] { return !batches_.empty() || closed_; });
        if (batches_.empty())
            return nullptr;
        auto batch = std::move(batches_.front());
        batches_.pop_front();
        room_.notify_one();
        return batch;
    }

    void close()
    {
        std::unique_lock<std::mutex> held(mutex_);
        closed_ = true;
        some_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable some_, room_;
    std::deque<std::unique_ptr<Batch>> batches_;
    bool closed_ = false;
};

static void produce(Queue &queue, std::uint64_t seed, long records)
{
    for (long made = 0; made < records;) {
        auto batch = std::make_unique<Batch>();

        for (; batch->size() < 64 && made < records; made++) {
            std::string record = "customer-" + std::to_string(seed % 997);

            for (int field = 0; field < 4; field++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                record += ";field" + std::to_string(seed >> 33 & 31) + "=" +
                          std::to_string(seed >> 40);
            }
            batch->push_back(std::move(record));
        }
        queue.put(std::move(batch));
    }
}

static std::vector<std::string> split(const std::string &text, char at)
{
    std::vector<std::string> parts;
    std::size_t from = 0, to;

    while ((to = text.find(at, from)) != std::string::npos) {
        parts.push_back(text.substr(from, to - from));
        from = to + 1;
    }
    parts.push_back(text.substr(from));
    return parts;
}

using Sums = std::map<std::string, std::map<std::string, std::uint64_t>>;

static void consume(Queue &queue, Sums &sums)
{
    while (auto batch = queue.take()) {
        for (const std::string &record : *batch) {
            std::vector<std::string> parts = split(record, ';');
            auto &sum = sums[parts[0]];

            for (std::size_t i = 1; i < parts.size(); i++) {
                std::vector<std::string> pair = split(parts[i], '=');

                sum[pair[0]] += std::stoull(pair[1]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    long half = argc > 2 ? std::atol(argv[1]) / 2 : 0;
    long records = half > 0 ? std::atol(argv[2]) / half : 0;

    if (half < 1 || records < 1)
        return 2;
    Queue queue;
    std::vector<Sums> sums(static_cast<std::size_t>(half));
    std::vector<std::thread> producers, consumers;
    std::uint64_t total = 0;

    for (long i = 0; i < half; i++) {
        consumers.emplace_back(consume, std::ref(queue), std::ref(sums[i]));
        producers.emplace_back(produce, std::ref(queue), 88172645463325252u + i,
                               records);
    }
    for (auto &thread : producers)
        thread.join();
    queue.close();
    for (auto &thread : consumers)
        thread.join();
    for (const Sums &part : sums)
        for (const auto &customer : part)
            for (const auto &field : customer.second)
                total += field.second;
    std::printf("%llu\n", static_cast<unsigned long long>(total));
    return 0;
}
