// SPDX-License-Identifier: Apache-2.0
//
// What C++ programs allocate:
//
//     objects map COUNT       an ordered map of strings to vectors, entries come and go
//     objects strings COUNT   strings that are joined, cut and thrown away
//     objects throw COUNT     exceptions that carry a string through some frames
//     objects tree COUNT      binary trees of bare nodes, built, walked and freed
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "heapbench.h"

namespace
{

std::string word(std::uint64_t &seed)
{
    std::uint64_t r = next_random(&seed);

    return "key " + std::string(r % 40, static_cast<char>('a' + r / 64 % 26)) +
           std::to_string(r % 50000);
}

std::size_t ordered(std::size_t count, std::uint64_t &seed)
{
    std::map<std::string, std::vector<int>> map;
    std::size_t sum = 0;

    for (std::size_t i = 0; i < count; i++) {
        auto &values = map[word(seed)];

        values.push_back(static_cast<int>(i));
        sum += values.size();
        if (map.size() > 20000) {
            auto gone = map.lower_bound(word(seed));
            map.erase(gone == map.end() ? map.begin() : gone);
        }
    }
    return sum;
}

std::size_t strings(std::size_t count, std::uint64_t &seed)
{
    std::vector<std::string> kept(1000);
    std::size_t sum = 0;

    for (std::size_t i = 0; i < count; i++) {
        std::string &text = kept[next_random(&seed) % kept.size()];

        text = text + ", " + word(seed);
        if (text.size() > 500)
            text = text.substr(text.size() - 100);
        sum += text.size();
    }
    return sum;
}

std::size_t thrower(std::uint64_t &seed, int depth)
{
    std::string local = word(seed);

    if (depth == 0)
        throw std::runtime_error(local + " is not what was expected here");
    return thrower(seed, depth - 1) + local.size();
}

std::size_t throwing(std::size_t count, std::uint64_t &seed)
{
    std::size_t sum = 0;

    for (std::size_t i = 0; i < count; i++) {
        try {
            sum += thrower(seed, static_cast<int>(i % 8));
        } catch (const std::runtime_error &error) {
            sum += std::string(error.what()).size();
        }
    }
    return sum;
}

struct Node {
    std::unique_ptr<Node> left, right;
    std::uint64_t value = 0;
};

std::unique_ptr<Node> grown(int depth, std::uint64_t &seed)
{
    auto node = std::make_unique<Node>();

    node->value = next_random(&seed);
    if (depth > 0) {
        node->left = grown(depth - 1, seed);
        node->right = grown(depth - 1 - static_cast<int>(node->value % 2), seed);
    }
    return node;
}

std::size_t sum_of(const Node *node)
{
    return node ? node->value + sum_of(node->left.get()) + sum_of(node->right.get())
                : 0;
}

std::size_t trees(std::size_t count, std::uint64_t &seed)
{
    auto kept = grown(20, seed);
    std::size_t sum = 0;

    for (std::size_t i = 0; i < count; i++)
        sum += sum_of(grown(static_cast<int>(6 + i % 10), seed).get());
    return sum + sum_of(kept.get());
}

} // namespace

int main(int argc, char **argv)
{
    std::string what = argc > 1 ? argv[1] : "";
    auto count = static_cast<std::size_t>(argument(argc, argv, 2));
    std::uint64_t seed = 11;
    std::size_t sum = 0;
    double start = now();

    if (what == "map")
        sum = ordered(count, seed);
    else if (what == "strings")
        sum = strings(count, seed);
    else if (what == "throw")
        sum = throwing(count, seed);
    else if (what == "tree")
        sum = trees(count, seed);
    else
        die("objects: map, strings, throw or tree");
    if (!sum)
        die("nothing was done");
    say("seconds", now() - start);
    return 0;
}
