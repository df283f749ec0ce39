#include "cpu/softmax_divergence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/thread_pool.hpp"
#include "cpu/simd.hpp"

namespace usmlite::cpu::USMLITE_ISA {
namespace {

// Largest logit, and the sum of exp((x - largest) * inverse); NaN when a logit is not finite.
struct Normalizer {
  float largest, sum;

  Normalizer(const float* x, int64_t columns, float inverse) {
    const Vector lowest = Vector::all(-std::numeric_limits<float>::infinity());
    Vector high = lowest, finite = Vector::zero(), total = Vector::zero();
    for_each_vector(columns, [&](int64_t i, int64_t lanes) {
      const Vector value = Vector::load(x + i, lanes);
      finite = multiply_add(value, Vector::zero(), finite);  // infinity * 0 is NaN
      high = maximum(high, value.head(lanes, lowest));
    });
    largest = high.maximum();
    const Vector shift = Vector::all(largest), factor = Vector::all(inverse);
    for_each_vector(columns, [&](int64_t i, int64_t lanes) {
      total = total + exponential((Vector::load(x + i, lanes) - shift) * factor).head(lanes, Vector::zero());
    });
    sum = finite.sum() == 0 ? total.sum() : std::numeric_limits<float>::quiet_NaN();
  }
};

}  // namespace

void softmax_divergence(const float* student, const float* teacher, int64_t rows, int64_t columns, float temperature, float* divergences,
                        float* gradient) {
  const float inverse = 1.0f / temperature;
  parallel_for(rows, std::max<int64_t>(1, 4096 / columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *s = student + row * columns, *q = teacher + row * columns;
      const Normalizer of_student(s, columns, inverse), of_teacher(q, columns, inverse);
      const Vector factor = Vector::all(inverse), student_shift = Vector::all(of_student.largest), teacher_shift = Vector::all(of_teacher.largest);
      const Vector student_share = Vector::all(1.0f / of_student.sum), teacher_share = Vector::all(1.0f / of_teacher.sum);
      Vector sum = Vector::zero();  // of q (teacher's shifted logit - student's)
      for_each_vector(columns, [&](int64_t i, int64_t lanes) {
        const Vector student_logit = (Vector::load(s + i, lanes) - student_shift) * factor;
        const Vector teacher_logit = (Vector::load(q + i, lanes) - teacher_shift) * factor;
        const Vector probability = exponential(teacher_logit) * teacher_share;
        sum = sum + (probability * (teacher_logit - student_logit)).head(lanes, Vector::zero());
        if (gradient) (exponential(student_logit) * student_share - probability).store(gradient + row * columns + i, lanes);
      });
      divergences[row] = sum.sum() + std::log(of_student.sum) - std::log(of_teacher.sum);
    }
  });
}

}  // namespace usmlite::cpu::USMLITE_ISA
